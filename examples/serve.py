"""Serve an exported graph: `python serve.py model.onnx 8000`, then `curl --data-binary @photo.jpg localhost:8000`.

Needs the extra `serve`. A request is read completely before it takes one of the two threads that compute. Requests that
are too large, too slow or too many are refused first. On the internet, put it behind a proxy."""
import io
import json
import sys

import numpy as np
import onnxruntime
from PIL import Image
from waitress import serve

FORMATS = ("JPEG", "PNG", "WEBP")  # other decoders are never called
MOST_PIXELS = 2**24  # per image; the graph needs 30 bytes per pixel
LIMITS = {
    "max_request_body_size": 2**24,  # bytes
    "max_request_header_size": 2**14,  # bytes
    "channel_timeout": 10,  # seconds of silence
    "cleanup_interval": 2,  # seconds between checks for silent connections
    "connection_limit": 32,  # open connections
    "threads": 2,  # requests computed at a time
}


class Refused(Exception):
    "A refused request: HTTP status and reason."


def read_image(content: bytes) -> np.ndarray:
    "Pixels, uint8 (height, width, 3), of an image whose size is checked before decoding."
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MOST_PIXELS:
            raise Refused("413 Content Too Large", f"{image.width}x{image.height} pixels; at most {MOST_PIXELS:,}")
        return np.array(image.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise Refused("413 Content Too Large", f"more than {MOST_PIXELS:,} pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Refused("400 Bad Request", f"not an image; expected {', '.join(FORMATS)}") from error


def make_app(path: str):
    "The WSGI application of a graph."
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])

    def classify(content: bytes) -> list[dict]:
        (probabilities,) = session.run(None, {"image": read_image(content)})
        best = np.argsort(-probabilities, kind="stable")[:5].tolist()
        called = [names[number] if names else str(number) for number in best]
        return [{"class": number, "name": name, "probability": float(probabilities[number])}
                for number, name in zip(best, called)]

    def app(environ, start_response):
        status, answer = "200 OK", None
        try:
            if environ["REQUEST_METHOD"] != "POST":
                raise Refused("405 Method Not Allowed", "POST an image")
            answer = classify(environ["wsgi.input"].read())
        except Refused as refused:
            status, answer = refused.args[0], {"error": refused.args[1]}
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    return app


if __name__ == "__main__":
    serve(make_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), **LIMITS)
