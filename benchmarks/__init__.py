"""Side-by-side runs against torchvision; no tests."""
