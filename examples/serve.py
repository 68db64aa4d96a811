"""Serve an exported graph: `python serve.py model.onnx 8000`, then `curl --data-binary @photo.jpg localhost:8000`."""
import io
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        try: image = Image.open(io.BytesIO(self.rfile.read(int(self.headers.get("Content-Length", 0))))).convert("RGB")
        except Exception as error: return self.send_error(400, "not an image", str(error))
        probabilities, = session.run(None, {"image": np.array(image)})
        best = np.argsort(-probabilities)[:5].tolist()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        called = [names[number] if names else str(number) for number in best]
        answer = [{"class": number, "name": name, "probability": float(probabilities[number])}
                  for number, name in zip(best, called)]
        self.wfile.write(json.dumps(answer).encode())

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
