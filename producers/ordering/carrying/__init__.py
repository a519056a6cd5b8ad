"""One intent after the other: checked, written down, handed over, its answer judged, looked for."""
