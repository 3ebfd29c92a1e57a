"""The float model behind one protocol; the Keras backend."""
