"""nnU-Net's side: its commands, and what it leaves in its folders."""
