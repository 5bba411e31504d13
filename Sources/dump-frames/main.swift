print("dump-frames")
