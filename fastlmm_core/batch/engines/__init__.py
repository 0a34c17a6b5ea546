"""Where the jobs of a batch run: threads, processes of this machine, workers of a Dask cluster."""
