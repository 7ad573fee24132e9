"""Draws the images of the built-in data sets, 256 px wide and high, and the masks of their defects.

The drawing uses only arithmetic that IEEE 754 rounds the same way everywhere, so every machine gets the same pixels.
Images are RGB in [0, 1], [SIZE, SIZE, 3]; positions are fractions of the side.
"""

import math

import numpy as np

SIZE = 256


_Y, _X = np.mgrid[0:SIZE, 0:SIZE] / SIZE + 0.5 / SIZE  # pixel centers, the side is 1


def draw_fabric(rng: np.random.Generator, defect: str) -> tuple[np.ndarray, np.ndarray]:
    """Plain-woven cloth, slightly rotated and stretched, lit from the side."""
    cosine, sine = _direction(rng.uniform(-0.012, 0.012))
    count = rng.uniform(19.0, 21.0)
    warp_x = 0.012 * (_noise(rng, 4) - 0.5)
    warp_y = 0.012 * (_noise(rng, 4) - 0.5)
    u = (_X * cosine - _Y * sine + warp_x) * count + rng.uniform(0, 2)
    v = (_X * sine + _Y * cosine + warp_y) * count + rng.uniform(0, 2)
    color_u = np.array([0.42, 0.47, 0.56]) + rng.uniform(-0.02, 0.02, 3)
    color_v = np.array([0.62, 0.62, 0.58]) + rng.uniform(-0.02, 0.02, 3)
    tone_u, tone_v = rng.uniform(0.9, 1.05, 64), rng.uniform(0.9, 1.05, 64)
    light = _light(rng)
    grain = _grain(rng, 0.035)
    fuzz = 0.12 * (_noise(rng, 128) - 0.5)

    def weave(without_thread: int | None = None) -> np.ndarray:
        column, row = np.floor(u).astype(int), np.floor(v).astype(int)
        across, along = _bump(u), _bump(v)
        gone = row % 64 == without_thread
        over = ((column + row) % 2 == 0) | gone
        height = np.where(over, across * (0.55 + 0.45 * np.where(gone, 0.0, along)), along * (0.55 + 0.45 * across))
        cloth = np.where(over[..., None], color_u * tone_u[column % 64, None], color_v * tone_v[row % 64, None])
        return cloth * (0.35 + 0.65 * height + fuzz)[..., None]

    normal = weave()
    image = normal
    if defect == "missing_thread":
        image = weave(without_thread=int(np.floor(v).astype(int)[rng.integers(40, 216), SIZE // 2] % 64))
        start, length = rng.uniform(0.0, 0.5), rng.uniform(0.35, 0.5)
        image = np.where(((start < _X) & (_X - start < length))[..., None], image, normal)
    elif defect == "hole":
        edge = _blob(rng, radius=rng.uniform(0.035, 0.075), rough=0.03)
        inside = _coverage(edge)
        fray = _coverage(np.abs(edge) - 0.008) * (_noise(rng, 128) > 0.45)
        image = _mix(image, np.array([0.07, 0.06, 0.06]), inside)
        image = _mix(image, color_v * 1.15, 0.8 * fray)
    elif defect == "stain":
        edge = _blob(rng, radius=rng.uniform(0.07, 0.14), rough=0.06)
        amount = np.clip(0.5 - edge * 30.0, 0, 1) * rng.uniform(0.45, 0.7)
        tint = (np.array([0.45, 0.33, 0.22]), np.array([0.30, 0.33, 0.42]))[rng.integers(2)]
        image = image * (1 - amount[..., None] * (1 - tint))
    elif defect == "loose_thread":
        line = _curve(rng, length=rng.uniform(0.3, 0.6), bend=rng.uniform(2.0, 6.0))
        shade = _coverage(line - 0.016) * 0.35
        image = _mix(image * (1 - shade[..., None]), color_v * 1.35, _coverage(line - 0.009))
    elif defect == "cut":
        line = _curve(rng, length=rng.uniform(0.12, 0.3), bend=rng.uniform(0.0, 1.0))
        image = _mix(image, np.array([0.10, 0.09, 0.10]), _coverage(line - rng.uniform(0.006, 0.012)))
    return np.clip(image * light + grain, 0, 1), _changed(normal, image)


def draw_gear(rng: np.random.Generator, defect: str) -> tuple[np.ndarray, np.ndarray]:
    """A cast gear wheel with five bolt holes, at any angle, on a rubber mat.

    The function is long because the order of its draws from `rng` determines the images; defects are drawn last.
    """
    y, x = _Y - rng.uniform(0.44, 0.56), _X - rng.uniform(0.44, 0.56)
    scale = rng.uniform(0.98, 1.14)
    y, x = y / scale, x / scale
    turn = rng.uniform(0.0, 1.0)
    radius = np.sqrt(x * x + y * y)
    metal = np.array([0.64, 0.65, 0.67]) + rng.uniform(-0.015, 0.015, 3)
    mat = np.array([0.17, 0.19, 0.20]) + rng.uniform(-0.015, 0.015, 3)
    light_x, light_y = _direction(rng.uniform(0.55, 0.70))
    patina = 1 + 0.2 * (_noise(rng, 12) + _noise(rng, 5) - 1)
    rings = rng.uniform(-1, 1, 200)[np.minimum((radius * 300).astype(int), 199)]
    gloss = (x * light_x + y * light_y) ** 2 / np.maximum(radius * radius, 1e-4)
    mat_grain = 0.06 * (_noise(rng, 128) + _noise(rng, 24) - 1)
    light = _light(rng)
    grain = _grain(rng, 0.02)
    chosen = int(rng.integers(12))

    def gear(*, broken: float = 0.0) -> np.ndarray:
        """Distance to the gear's outline, negative inside."""
        body = radius - 0.30
        for tooth in range(12):
            cut = broken if tooth in (chosen, (chosen + 1) % 12) else 0.0
            cosine, sine = _direction(turn + tooth / 12)
            along, side = x * cosine + y * sine, -x * sine + y * cosine
            width = 0.034 - 0.16 * np.maximum(along - 0.30, 0)
            body = np.minimum(body, np.maximum(np.abs(side) - width, np.maximum(along - 0.375 + cut, 0.2 - along)))
        body = np.maximum(body, 0.10 - radius)
        for hole in range(5):
            cosine, sine = _direction(turn + hole / 5)
            hole_x, hole_y = x - 0.20 * cosine, y - 0.20 * sine
            body = np.maximum(body, 0.030 - np.sqrt(hole_x * hole_x + hole_y * hole_y))
        return body

    def render(outline: np.ndarray) -> np.ndarray:
        inside = _coverage(outline)
        slope_y, slope_x = np.gradient(outline * SIZE)
        rim = np.clip(1 + outline / 0.012, 0, 1) * (slope_x * light_x + slope_y * light_y)
        shade = 0.74 + 0.22 * gloss + 0.035 * rings - 0.22 * rim
        shadow = np.roll(_coverage(outline - 0.008), (5, 4), (0, 1))
        ground = (mat + mat_grain[..., None]) * (1 - 0.45 * shadow[..., None])
        return _mix(ground, metal * (shade * patina)[..., None], inside)

    normal = render(gear())
    image = normal
    if defect == "broken_teeth":
        image = render(gear(broken=rng.uniform(0.045, 0.075)))
    elif defect == "crack":
        line = _curve(rng, length=rng.uniform(0.2, 0.35), bend=rng.uniform(0.5, 2.0), center=_on_ring(rng, x, y))
        on_metal = _coverage(gear() + 0.004)
        image = _mix(image, mat * 0.5, on_metal * _coverage(line + 0.02 * (_noise(rng, 40) - 0.5) - 0.014))
    elif defect == "scratch":
        line = _curve(rng, length=rng.uniform(0.25, 0.45), bend=rng.uniform(0.0, 1.5), center=_on_ring(rng, x, y))
        on_metal = _coverage(gear() + 0.004)
        image = _mix(image, image * 0.3, on_metal * _coverage(line - 0.016))
        image = _mix(image, np.minimum(image * 1.9, 1.0), on_metal * _coverage(line - 0.006))
    elif defect == "swarf":
        line = _curve(rng, length=rng.uniform(0.3, 0.5), bend=rng.uniform(2.0, 5.0))
        image = _mix(image * (1 - 0.5 * _coverage(line - 0.020))[..., None], metal * 1.35, _coverage(line - 0.0105))
    elif defect == "rust":
        edge = _blob(rng, radius=rng.uniform(0.04, 0.07), rough=0.06, center=_on_ring(rng, x, y))
        speckle = np.clip(0.5 - edge * 25.0, 0, 1) * (0.35 + 0.65 * _noise(rng, 64))
        image = _mix(image, np.array([0.45, 0.24, 0.11]), speckle * _coverage(gear()) * rng.uniform(0.8, 1.0))
    return np.clip(image * light + grain, 0, 1), _changed(normal, image)


def _direction(turns: float) -> tuple[float, float]:
    """Cosine and sine, rounded to hide differences between machines in the last digit."""
    return round(math.cos(2 * math.pi * turns), 6), round(math.sin(2 * math.pi * turns), 6)


def _bump(position: np.ndarray) -> np.ndarray:
    """A parabola over each unit: 0 at whole numbers, 1 halfway between them."""
    part = position - np.floor(position)
    return 4 * part * (1 - part)


def _noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth random field in [0, 1] with `cells` cells along each side."""
    grid = rng.uniform(0, 1, (cells + 2, cells + 2))
    row, column = (_Y * cells).astype(int), (_X * cells).astype(int)
    a, b = _Y * cells - row, _X * cells - column
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    top = grid[row, column] * (1 - b) + grid[row, column + 1] * b
    bottom = grid[row + 1, column] * (1 - b) + grid[row + 1, column + 1] * b
    return top * (1 - a) + bottom * a


def _light(rng: np.random.Generator) -> np.ndarray:
    """Brightness [SIZE, SIZE, 1] that falls off across the image."""
    cosine, sine = _direction(rng.uniform(0, 1))
    slope = rng.uniform(0.0, 0.15)
    return (rng.uniform(0.94, 1.06) * (1 + slope * ((_X - 0.5) * cosine + (_Y - 0.5) * sine)))[..., None]


def _grain(rng: np.random.Generator, amount: float) -> np.ndarray:
    """Camera noise [SIZE, SIZE, 1]: a sum of four uniform draws, which is nearly normal."""
    a, b, c, d = rng.uniform(-0.5, 0.5, (4, SIZE, SIZE))
    return (amount * (a + b + c + d))[..., None]


def _coverage(distance: np.ndarray) -> np.ndarray:
    """Fraction of each pixel inside an outline, from the distance to it in side lengths (negative inside)."""
    return np.clip(0.5 - distance * SIZE, 0, 1)


def _mix(below: np.ndarray, above: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return below + alpha[..., None] * (above - below)


def _blob(
    rng: np.random.Generator, *, radius: float, rough: float, center: tuple[float, float] | None = None
) -> np.ndarray:
    """Distance-like field of an irregular spot, negative inside."""
    center_y, center_x = center or (rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.85))
    stretch = rng.uniform(0.75, 1.3)
    y, x = (_Y - center_y) * stretch, (_X - center_x) / stretch
    return np.sqrt(y * y + x * x) - radius + rough * (_noise(rng, 16) - 0.5)


def _curve(
    rng: np.random.Generator, *, length: float, bend: float, center: tuple[float, float] | None = None
) -> np.ndarray:
    """Distance to a bent line: a piece of a parabola at any angle."""
    center_y, center_x = center or (rng.uniform(0.25, 0.75), rng.uniform(0.25, 0.75))
    cosine, sine = _direction(rng.uniform(0, 1))
    y, x = _Y - center_y, _X - center_x
    along, across = x * cosine + y * sine, -x * sine + y * cosine
    across = across - bend * along * along
    beyond = np.maximum(np.abs(along) - length / 2, 0)
    return np.sqrt(across * across + beyond * beyond)


def _on_ring(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """A point (y, x) on the gear's face."""
    cosine, sine = _direction(rng.uniform(0, 1))
    distance = rng.uniform(0.14, 0.26)
    row = int(np.argmin(np.abs(y[:, 0] - distance * sine)))
    column = int(np.argmin(np.abs(x[0] - distance * cosine)))
    return float(_Y[row, 0]), float(_X[0, column])


def _changed(normal: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Where the defect changed the drawing by more than 4 %, grown by one pixel."""
    mask = np.abs(image - normal).max(axis=-1) > 0.04
    padded = np.pad(mask, 1)
    return padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:] | mask
