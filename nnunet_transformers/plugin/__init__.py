"""How stock nnU-Net finds us: a start-up hook, the one folder nnU-Net scans, and a check of both."""
