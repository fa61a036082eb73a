"""LeukoDash: train, compare and explain convolutional networks for acute lymphoblastic leukemia cells.

For teaching and research. Not a medical device.
"""
