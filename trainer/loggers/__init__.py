"""Where the metrics of a run go: files, TensorBoard, Weights & Biases, MLflow, the terminal."""
