"""A program of one's own for a canary: `mizzen image add my-app:1.0 --command "python app.py 1.0" --workdir …`."""
