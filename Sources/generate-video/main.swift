print("generate-video")
