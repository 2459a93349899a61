"""KISScluster: two Debian machines that back up each other's virtual machines."""

VERSION = "0.1"
