"""LeukoDash: train, compare and explain convolutional networks for acute lymphoblastic leukemia cells.

For teaching and research. Not a medical device.
"""

__version__ = "0.2.0"
