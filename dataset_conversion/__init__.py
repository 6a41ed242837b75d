"""From what a hospital or a download gives to nnU-Net raw format: layouts, case table, checks, writing, splits."""
