"""Monitoring: charts of measurements, and personal thresholds that are tried on the past before they raise alerts."""
