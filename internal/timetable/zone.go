package timetable

import (
	"fmt"
	"path"
	"strings"
	"sync"
	"time"
)

// Zone is a time zone as Airflow stores it: an IANA name or a fixed offset. The
// zero Zone is UTC.
type Zone struct {
	name   string // "" for a fixed offset and for UTC
	offset int    // seconds east, of a fixed offset
	loc    *time.Location
}

// UTC is the zone UTC.
var UTC = Zone{}

// FixedZone returns the zone that is always seconds east of UTC; 0 is UTC, as
// Airflow serializes it.
func FixedZone(seconds int) Zone {
	if seconds == 0 {
		return UTC
	}
	return Zone{offset: seconds, loc: time.FixedZone("", seconds)}
}

// zones caches loaded zones by name: the time zone database does not change
// while a process runs.
var zones sync.Map

// areas are the folders of the time zone database.
var areas = map[string]bool{
	"Africa": true, "America": true, "America/Argentina": true, "America/Indiana": true, "America/Kentucky": true,
	"America/North_Dakota": true, "Antarctica": true, "Arctic": true, "Asia": true, "Atlantic": true, "Australia": true,
	"Brazil": true, "Canada": true, "Chile": true, "Etc": true, "Europe": true, "Indian": true, "Mexico": true,
	"Pacific": true, "US": true,
}

// LoadZone returns the zone of an IANA name. It is the only function of this
// package that does I/O: it reads the time zone database of the machine, or the
// one that the program embeds.
//
// Names are case-sensitive, except UTC. Offsets ("+09:00", "UTC+9"), "Z", "local"
// and numbers are no names. The error is an *Error of class InvalidTimezone,
// ValueError for what cannot be a key of the database, or IsADirectoryError for
// an area without a place.
func LoadZone(name string) (Zone, error) {
	if strings.EqualFold(name, "utc") {
		return UTC, nil
	}
	if z, ok := zones.Load(name); ok {
		return z.(Zone), nil
	}
	switch {
	case strings.HasPrefix(name, "/"):
		return Zone{}, &Error{Class: "ValueError", Message: "ZoneInfo keys may not be absolute paths, got: " + name}
	case name == "." || name == ".." || strings.HasPrefix(name, "../"):
		return Zone{}, &Error{Class: "ValueError", Message: "ZoneInfo keys must refer to subdirectories of TZPATH, got: " + name}
	case name == "" || path.Clean(name) != name:
		return Zone{}, &Error{Class: "ValueError", Message: "ZoneInfo keys must be normalized relative paths, got: " + name}
	}
	if areas[name] {
		return Zone{}, &Error{Class: "IsADirectoryError", Message: "[Errno 21] Is a directory: '" + name + "'"}
	}
	invalid := &Error{Class: "InvalidTimezone", Message: name}
	if name == "Local" {
		return Zone{}, invalid // Go's own name, not one of the database
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return Zone{}, invalid
	}
	z := Zone{name: name, loc: loc}
	zones.Store(name, z)
	return z, nil
}

// String returns the name, "UTC", or an offset such as "+09:00".
func (z Zone) String() string {
	switch {
	case z.name != "":
		return z.name
	case z.offset == 0:
		return "UTC"
	}
	sign, s := '+', z.offset
	if s < 0 {
		sign, s = '-', -s
	}
	return fmt.Sprintf("%c%02d:%02d", sign, s/3600, s/60%60)
}

// Location returns the zone for use with package time.
func (z Zone) Location() *time.Location {
	if z.loc == nil {
		return time.UTC
	}
	return z.loc
}

// serialize returns the name, or the offset in seconds.
func (z Zone) serialize() any {
	if z.name == "" && z.offset != 0 {
		return z.offset
	}
	return z.String()
}

// offsetAt returns the seconds east of UTC at an instant.
func (z Zone) offsetAt(unix int64) int64 {
	if z.loc == nil {
		return 0
	}
	if z.name == "" {
		return int64(z.offset)
	}
	_, off := time.Unix(unix, 0).In(z.loc).Zone()
	return int64(off)
}

// wall returns the wall clock at t, as a UTC time that shows the same digits.
func (z Zone) wall(t time.Time) time.Time {
	sec := t.Unix()
	return time.Unix(sec+z.offsetAt(sec), int64(t.Nanosecond())).UTC()
}

// At returns the instant at which the zone's wall clock shows wall (whose own
// zone is ignored). A time that happens twice means the second one if fold is 1,
// else the first. A time that does not exist is moved forward by the gap with
// fold 1; with fold 0 it is moved back by it.
func (z Zone) At(wall time.Time, fold int) time.Time {
	y, m, d := wall.Date()
	naive := time.Date(y, m, d, wall.Hour(), wall.Minute(), wall.Second(), wall.Nanosecond(), time.UTC)
	return z.instant(naive, fold).In(z.Location())
}

// instant is At for a wall clock carried in UTC, as produced by wall. The result
// is in UTC.
func (z Zone) instant(naive time.Time, fold int) time.Time {
	if z.loc == nil {
		return naive
	}
	w, ns := naive.Unix(), int64(naive.Nanosecond())
	if z.name == "" {
		return time.Unix(w-int64(z.offset), ns).UTC()
	}
	// The offsets in force around the wall time. Offsets are below a day and
	// zones do not change twice within two days.
	before := z.offsetAt(w - 86400)
	after := z.offsetAt(w + 86400)
	unix := w - after
	if before != after {
		first, second := w-before, w-after
		okFirst, okSecond := z.offsetAt(first) == before, z.offsetAt(second) == after
		switch {
		case okFirst && okSecond: // it happens twice
			if fold == 0 {
				unix = first
			} else {
				unix = second
			}
		case okFirst:
			unix = first
		case okSecond:
		case fold == 0: // it does not exist
			unix = second
		default:
			unix = first
		}
	} else if z.offsetAt(unix) != after {
		// Two changes close together: settle on whichever offset is consistent.
		if mid := z.offsetAt(unix); z.offsetAt(w-mid) == mid {
			unix = w - mid
		}
	}
	return time.Unix(unix, ns).UTC()
}

// isoFormat is Python's datetime.isoformat: microseconds only when there are
// any, the offset always.
func isoFormat(t time.Time) string {
	layout := "2006-01-02T15:04:05"
	if t.Nanosecond() >= 1000 {
		layout += ".000000"
	}
	_, off := t.Zone()
	if off%60 != 0 {
		return t.Format(layout + "-07:00:00")
	}
	return t.Format(layout + "-07:00")
}
