"""The ground floor: what both the conversion and the comparison stand on. Knows neither PyTorch nor nnU-Net."""
