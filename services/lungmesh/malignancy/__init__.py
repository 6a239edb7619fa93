"""The malignancy service: signs measured from the image, and the published risk models."""
