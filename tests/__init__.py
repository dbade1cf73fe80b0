"""The tests; also a package, so that the laboratory and the runners can be imported and started."""
