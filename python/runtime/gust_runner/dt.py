"""DateTime: what Airflow's pendulum dates offer, when pendulum is not loaded.

If the user's code imported pendulum, real pendulum objects are handed out.
"""
import calendar
import datetime
import sys

UTC = datetime.timezone.utc
_UNITS = ("year", "month", "week", "day", "hour", "minute", "second", "microsecond")


def _zone(tz):
    if isinstance(tz, datetime.tzinfo):
        return tz
    if tz is None or tz in ("UTC", "utc", "Z"):
        return UTC
    if isinstance(tz, (int, float)):
        return datetime.timezone(datetime.timedelta(seconds=tz))
    import zoneinfo

    return zoneinfo.ZoneInfo(tz)


class DateTime(datetime.datetime):
    """A datetime with the pendulum methods that DAG code commonly uses."""

    @classmethod
    def _of(cls, d):
        return cls(d.year, d.month, d.day, d.hour, d.minute, d.second, d.microsecond, d.tzinfo, fold=d.fold)

    def __str__(self):
        return self.isoformat(" ")

    def __repr__(self):
        return (f"DateTime({self.year}, {self.month}, {self.day}, {self.hour}, {self.minute}, {self.second}"
                + (f", {self.microsecond}" if self.microsecond else "") + f", tzinfo={self.timezone_name!r})")

    def __format__(self, spec):
        if not spec:
            return str(self)
        return self.strftime(spec) if "%" in spec else self.format(spec)

    def __add__(self, other):
        r = super().__add__(other)
        return DateTime._of(r) if isinstance(r, datetime.datetime) else r

    __radd__ = __add__

    def __sub__(self, other):
        r = super().__sub__(other)
        return DateTime._of(r) if isinstance(r, datetime.datetime) else r

    @property
    def timezone_name(self):
        return getattr(self.tzinfo, "key", None) or (self.tzinfo.tzname(self) if self.tzinfo else None)

    @property
    def timezone(self):
        return self.tzinfo

    tz = timezone

    @property
    def int_timestamp(self):
        return int(self.timestamp())

    @property
    def float_timestamp(self):
        return self.timestamp()

    @property
    def offset(self):
        return int(self.utcoffset().total_seconds())

    @property
    def day_of_week(self):
        return self.weekday()

    @property
    def day_of_year(self):
        return self.timetuple().tm_yday

    @property
    def week_of_year(self):
        return self.isocalendar()[1]

    @property
    def days_in_month(self):
        return calendar.monthrange(self.year, self.month)[1]

    @property
    def quarter(self):
        return (self.month - 1) // 3 + 1

    def add(self, years=0, months=0, weeks=0, days=0, hours=0, minutes=0, seconds=0, microseconds=0):
        m = self.month - 1 + months + 12 * years
        y, m = self.year + m // 12, m % 12 + 1
        d = min(self.day, calendar.monthrange(y, m)[1])
        wall = datetime.datetime.replace(self, year=y, month=m, day=d) + datetime.timedelta(weeks=weeks, days=days)
        if hours or minutes or seconds or microseconds:
            delta = datetime.timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)
            wall = (wall.astimezone(UTC) + delta).astimezone(self.tzinfo) if self.tzinfo else wall + delta
        return DateTime._of(wall)

    def subtract(self, **kw):
        return self.add(**{k: -v for k, v in kw.items()})

    def in_timezone(self, tz):
        return DateTime._of(self.astimezone(_zone(tz)))

    in_tz = in_timezone

    def replace(self, *args, **kw):
        return DateTime._of(datetime.datetime.replace(self, *args, **kw))

    def set(self, **kw):
        if "tz" in kw:
            kw["tzinfo"] = _zone(kw.pop("tz"))
        return self.replace(**kw)

    def at(self, hour, minute=0, second=0, microsecond=0):
        return self.replace(hour=hour, minute=minute, second=second, microsecond=microsecond)

    def naive(self):
        return self.replace(tzinfo=None)

    def start_of(self, unit):
        if unit not in _UNITS:
            raise ValueError(f'Invalid unit "{unit}" for start_of()')
        d = self
        if unit == "week":
            return d.subtract(days=d.weekday()).start_of("day")
        zero = {"year": dict(month=1, day=1), "month": dict(day=1)}
        parts = dict(zero.get(unit, {}))
        if unit in ("year", "month", "day"):
            parts.update(hour=0)
        if unit in ("year", "month", "day", "hour"):
            parts.update(minute=0)
        if unit in ("year", "month", "day", "hour", "minute"):
            parts.update(second=0)
        return d.replace(microsecond=0, **parts)

    def end_of(self, unit):
        step = {unit + "s": 1}
        return self.start_of(unit).add(**step).subtract(microseconds=1)

    def to_date_string(self):
        return self.strftime("%Y-%m-%d")

    def to_time_string(self):
        return self.strftime("%H:%M:%S")

    def to_datetime_string(self):
        return self.strftime("%Y-%m-%d %H:%M:%S")

    def to_iso8601_string(self):
        s = self.isoformat()
        return s[:-6] + "Z" if self.timezone_name == "UTC" and s.endswith("+00:00") else s

    def to_rfc3339_string(self):
        return self.isoformat()

    def is_past(self):
        return self < datetime.datetime.now(UTC)

    def is_future(self):
        return self > datetime.datetime.now(UTC)

    def format(self, fmt, locale=None):
        """Format with pendulum's tokens; the ones met in file names and keys."""
        import re

        table = {
            "YYYY": "%Y", "YY": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "DDDD": "%j", "DD": "%d", "dddd": "%A",
            "ddd": "%a", "HH": "%H", "hh": "%I", "mm": "%M", "ss": "%S", "SSSSSS": "%f", "A": "%p", "zz": "%Z",
        }
        own = {
            "M": str(self.month), "D": str(self.day), "H": str(self.hour), "h": str((self.hour + 11) % 12 + 1),
            "m": str(self.minute), "s": str(self.second), "X": str(self.int_timestamp), "Q": str(self.quarter),
            "SSS": "%03d" % (self.microsecond // 1000), "z": self.timezone_name or "", "d": str(self.isoweekday() % 7),
            "ZZ": self.strftime("%z"), "Z": self.strftime("%z")[:3] + ":" + self.strftime("%z")[3:], "E": str(self.isoweekday()),
        }

        def sub(m):
            t = m.group(0)
            if t.startswith("["):
                return t[1:-1]
            if t.startswith("\\"):
                return t[1:]
            return own[t] if t in own else self.strftime(table[t]) if t in table else t

        return re.sub(r"\[[^\]]*\]|\\.|YYYY|YY|MMMM|MMM|MM|M|DDDD|DD|D|dddd|ddd|d|E|HH|H|hh|h|mm|m|SSSSSS|SSS|ss|s|A|ZZ|Z|zz|z|X|Q", sub, fmt)

    def diff(self, other=None, abs=True):
        delta = (other or now()) - self
        return -delta if abs and delta < datetime.timedelta(0) else delta

    def __reduce__(self):
        return (datetime.datetime.fromisoformat, (self.isoformat(),))

    def __reduce_ex__(self, protocol):
        return self.__reduce__()


def as_pendulum(d):
    """Return d as a pendulum DateTime if pendulum is loaded, else as DateTime."""
    if d is None:
        return None
    p = sys.modules.get("pendulum")
    if p is not None and hasattr(p, "instance"):
        return p.instance(d)
    return DateTime._of(d)


def parse(s):
    """Parse ISO 8601 text; a trailing Z is UTC (Python 3.10 does not know it)."""
    if s is None:
        return None
    if s.endswith("Z"):
        s = s[:-1] + "+00:00"
    if "." in s:  # RFC 3339 from Go has up to 9 digits; Python 3.10 wants exactly 3 or 6
        head, _, tail = s.partition(".")
        n = 0
        while n < len(tail) and tail[n].isdigit():
            n += 1
        s = f"{head}.{tail[:n][:6].ljust(6, '0')}{tail[n:]}"
    return datetime.datetime.fromisoformat(s)


def now(tz=None):
    return DateTime._of(datetime.datetime.now(_zone(tz)))
