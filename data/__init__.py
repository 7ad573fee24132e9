"""Getting data ready: build-time only, never imported by cutpaste_tf."""
