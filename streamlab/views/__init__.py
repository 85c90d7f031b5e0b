"""What people, and other programs, look at.

Views read snapshots of a run's tables, never the engine's live objects, and do not know each other.

``figures``        charts: tables in, plotly figures out; pure, shared by the views
``stills``         figures as still pictures, SVG; pure
``drawing``        where the graph's nodes and edges are drawn; pure, shared by the views
``diagram``        the graph as a picture, SVG; pure
``numbers``        numbers as people read them; pure
``letters``        text for HTML and SVG; pure
``values``         values as HTML, with what changed in them marked; pure
``markup``         runs, pipelines and lines as HTML, with those pictures; pure
``points``         counters and durations as monitoring has them; pure, shared by the views
``notebook``       the live view of a run in JupyterLab, and plots on demand
``dashboard``      a live page and JSON over HTTP, for browsers and programs; Prometheus
``opentelemetry``  metrics and sampled traces to a collector
``terminal``       the command line's words
"""
