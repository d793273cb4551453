"""Run records, the statistics over them, and one self-contained page that shows both."""
