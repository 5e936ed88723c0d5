"""From a Keras model and photos to a TFLite file: calibration data, the converter, and its noise kept out of sight."""
