"""Numbers of a server, in Prometheus's text format."""

from collections import Counter

# Upper ends of the histogram's buckets, in seconds.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
TYPE = 'text/plain; version=0.0.4; charset=utf-8'


class Metrics:
    """What a server has done. Of one thread.

    Attributes:
        waiting: Images that are being received, wait, or are detected in.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets = [0] * len(SECONDS)
        self._count, self._seconds, self._objects = 0, 0.0, 0

    def request(self, path: str, status: int) -> None:
        """Count an answer.

        Args:
            path: One of a few, so that clients cannot add rows.
            status: Of HTTP.
        """
        self._requests[path, status] += 1

    def detection(self, seconds: float, objects: int) -> None:
        """Count an image.

        Args:
            seconds: To decode it and to detect in it.
            objects: How many were found.
        """
        self._count += 1
        self._seconds += seconds
        self._objects += objects
        for index, end in enumerate(SECONDS):
            self._buckets[index] += seconds <= end

    def text(self) -> str:
        """Return all numbers."""
        lines = [
            '# HELP aqd_requests_total Requests that were answered.',
            '# TYPE aqd_requests_total counter',
            *(
                f'aqd_requests_total{{path="{path}",status="{status}"}} {n}'
                for (path, status), n in sorted(self._requests.items())
            ),
            '# HELP aqd_images_waiting Images received, waiting or run now.',
            '# TYPE aqd_images_waiting gauge',
            f'aqd_images_waiting {self.waiting}',
            '# HELP aqd_objects_total Objects that were found.',
            '# TYPE aqd_objects_total counter',
            f'aqd_objects_total {self._objects}',
            '# HELP aqd_detection_seconds Time to decode and to detect.',
            '# TYPE aqd_detection_seconds histogram',
            *(
                f'aqd_detection_seconds_bucket{{le="{end}"}} {n}'
                for end, n in zip(SECONDS, self._buckets, strict=True)
            ),
            f'aqd_detection_seconds_bucket{{le="+Inf"}} {self._count}',
            f'aqd_detection_seconds_sum {self._seconds}',
            f'aqd_detection_seconds_count {self._count}',
        ]
        return '\n'.join(lines) + '\n'
