"""Shipped data sets: what they hold, under which licence, and with which caution (`docs/data.md`)."""

from grid.datasets.registry import DATASETS, Column, Dataset, dataset, dataset_notice, read_csv_table

__all__ = ["DATASETS", "Column", "Dataset", "dataset", "dataset_notice", "read_csv_table"]
