"""What every part leans on: params, files, errors, the runtime."""
