"""A detector behind HTTP: an image in, its prediction out, as `predict_main.py` gives it.

An example of a service on one exported detector. For many requests a second, TensorFlow Serving takes the SavedModel
itself (docs/deploy.md).
"""

import base64
import threading
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

import cutpaste_tf
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.errors import InputError
from cutpaste_tf.pictures import heat_map_files
from cutpaste_tf.serving import rows


def application(detector: Detector, *, max_megabytes: float = 64.0) -> FastAPI:
    """The service.

    `GET /` tells what the detector is. `POST /predict`, with the content of an image file as its body, answers score,
    p_value, decision and boxes, as a row of `predict_main.py --format=jsonl`; `?heat_map=true` adds heat_map, a 16-bit
    grey PNG of the image's size in base64, and heat_of_65535, its scale. `?name=` stands for the file in messages, and
    finds its region where each image has one.

    What `predict_main.py` refuses is answered by 422 and the same words; a body over `max_megabytes` by 413.

    Args:
        detector: of `load`.
        max_megabytes: largest body.
    """
    app = FastAPI(title="cutpaste_tf", version=cutpaste_tf.__version__)
    one_at_a_time = threading.Lock()  # scoring uses all cores; more at once would only take memory
    threshold, _ = detector.threshold_and_rate(detector.calibration) if detector.calibration else (None, None)
    detector.prepare()

    def predict(content: bytes, name: str, heat_map: bool) -> dict[str, Any]:
        with one_at_a_time:
            result = detector.predict(content, name=name, heat_map=heat_map)
        answer = rows.fields(result)
        if threshold is not None:
            answer["threshold"] = threshold
        if result.heat_map is not None:
            png, largest = heat_map_files.as_png(result.heat_map)
            answer |= {"heat_map": base64.b64encode(png).decode(), "heat_of_65535": largest}
        return answer

    @app.get("/")
    def about() -> dict[str, Any]:
        height, width = detector.size
        return {"detector": detector.description, "height": height, "width": width, "threshold": threshold}

    @app.post("/predict")
    async def answer(request: Request, name: str = "the image", heat_map: bool = False) -> JSONResponse:
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > 1e6 * max_megabytes:
                return JSONResponse({"error": f"{name} has more than {max_megabytes:g} MB."}, 413)
        try:
            return JSONResponse(await run_in_threadpool(predict, bytes(content), name, heat_map))
        except InputError as error:
            return JSONResponse({"error": str(error)}, 422)

    return app
