"""Getting data ready for TensorFlow Datasets: never imported by cutpaste_tf, and no command goes through it."""
