"""From a head mesh to named face shapes: topology, landmarks, controls, shapes, head files."""
