"""The .tflite format and its runtimes: flatbuffer in and out, operators, interpreters, inspection."""
