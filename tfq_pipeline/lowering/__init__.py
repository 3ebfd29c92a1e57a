"""From a Plan to a .tflite, and the proof that the file is what the Plan says."""
