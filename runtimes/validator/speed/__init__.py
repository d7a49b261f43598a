"""Speed: interleaved timing, pace of the machine, roofline."""
