package jinja

import (
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // time zones do not depend on the machine
)

// TZKind is the Python class of a time zone object.
type TZKind int

// The kinds of time zone objects.
const (
	TZPendulum TZKind = iota // pendulum.Timezone and FixedTimezone
	TZDatetime               // datetime.timezone
	TZDateutil               // dateutil.tz
	TZPydantic               // pydantic's TzInfo, which Airflow's dag_run dates carry
)

// TZ is a time zone object. Either loc is set (a zone of the tz database) or
// offset counts (a fixed offset in seconds).
type TZ struct {
	kind   TZKind
	name   string
	loc    *time.Location
	offset int
}

// UTC zones of the different classes.
var (
	UTC         = &TZ{kind: TZPendulum, name: "UTC"}
	datetimeUTC = &TZ{kind: TZDatetime, name: "UTC"}
	dateutilUTC = &TZ{kind: TZDateutil, name: "UTC"}
	PydanticUTC = &TZ{kind: TZPydantic, name: "UTC"}
)

var (
	typeTimezone      = &Type{Module: "pendulum.tz.timezone", Name: "Timezone"}
	typeFixedTimezone = &Type{Module: "pendulum.tz.timezone", Name: "FixedTimezone"}
	typeDTTimezone    = &Type{Module: "datetime", Name: "timezone"}
	typeTzFile        = &Type{Module: "dateutil.tz.tz", Name: "tzfile"}
	typeTzUTC         = &Type{Module: "dateutil.tz.tz", Name: "tzutc"}
	typeTzOffset      = &Type{Module: "dateutil.tz.tz", Name: "tzoffset"}
	typeTzInfo        = &Type{Module: "pydantic_core._pydantic_core", Name: "TzInfo"}
)

var zoneCache sync.Map

func loadZone(name string) *time.Location {
	if l, ok := zoneCache.Load(name); ok {
		return l.(*time.Location)
	}
	if name == "" || name == "Local" || strings.HasPrefix(name, "/") || strings.Contains(name, "..") {
		return nil
	}
	l, err := time.LoadLocation(name)
	if err != nil {
		return nil
	}
	zoneCache.Store(name, l)
	return l
}

// Zone finds a zone of the tz database.
func Zone(kind TZKind, name string) (*TZ, bool) {
	if name == "UTC" {
		return &TZ{kind: kind, name: "UTC"}, true
	}
	l := loadZone(name)
	if l == nil {
		return nil, false
	}
	return &TZ{kind: kind, name: name, loc: l}, true
}

func fixedZone(kind TZKind, offset int) *TZ {
	z := &TZ{kind: kind, offset: offset}
	if kind == TZPendulum {
		z.name = offsetText(offset, ":")
	}
	return z
}

// offsetText is +HH:MM, with seconds only if there are any.
func offsetText(off int, sep string) string {
	sign := "+"
	if off < 0 {
		sign, off = "-", -off
	}
	s := fmt.Sprintf("%s%02d%s%02d", sign, off/3600, sep, off/60%60)
	if off%60 != 0 {
		s += fmt.Sprintf("%s%02d", sep, off%60)
	}
	return s
}

func (z *TZ) offsetAt(unix int64) int {
	if z.loc == nil {
		return z.offset
	}
	_, off := time.Unix(unix, 0).In(z.loc).Zone()
	return off
}

// offsets gives the offsets before (fold 0) and after (fold 1) that a wall time
// may have: equal except in a gap or an overlap.
func (z *TZ) offsets(wall int64) (fold0, fold1 int) {
	if z.loc == nil {
		return z.offset, z.offset
	}
	a, b := z.offsetAt(wall-86400), z.offsetAt(wall+86400)
	if a == b {
		// The usual case, unless two changes are less than two days apart.
		if z.offsetAt(wall-int64(a)) == a {
			return a, a
		}
	}
	okA := z.offsetAt(wall-int64(a)) == a
	okB := z.offsetAt(wall-int64(b)) == b
	switch {
	case okA && !okB:
		return a, a
	case okB && !okA:
		return b, b
	}
	return a, b
}

// PyType is the zone's class.
func (z *TZ) PyType() *Type {
	switch z.kind {
	case TZDatetime:
		return typeDTTimezone
	case TZDateutil:
		switch {
		case z.name == "UTC":
			return typeTzUTC
		case z.loc == nil:
			return typeTzOffset
		}
		return typeTzFile
	case TZPydantic:
		return typeTzInfo
	}
	if z.loc == nil && z.name != "UTC" {
		return typeFixedTimezone
	}
	return typeTimezone
}

// PyStr is the zone's name.
func (z *TZ) PyStr() string {
	switch z.kind {
	case TZDateutil:
		return z.PyRepr()
	case TZDatetime:
		return z.abbr(0)
	case TZPydantic:
		if z.offset == 0 {
			return "UTC"
		}
		return offsetText(z.offset, ":")
	}
	return z.name
}

// PyRepr shows the zone.
func (z *TZ) PyRepr() string {
	switch z.kind {
	case TZDatetime:
		if z.offset == 0 {
			return "datetime.timezone.utc"
		}
		return "datetime.timezone(" + (&TimeDelta{us: int64(z.offset) * 1e6}).PyRepr() + ")"
	case TZDateutil:
		switch {
		case z.name == "UTC":
			return "tzutc()"
		case z.loc == nil:
			return fmt.Sprintf("tzoffset(None, %d)", z.offset)
		}
		return "tzfile('/usr/share/zoneinfo/" + z.name + "')"
	case TZPydantic:
		if z.offset == 0 {
			return "TzInfo(UTC)"
		}
		return "TzInfo(" + offsetText(z.offset, ":") + ")"
	}
	if z.loc == nil && z.name != "UTC" {
		return fmt.Sprintf("FixedTimezone(%d, name=\"%s\")", z.offset, z.name)
	}
	return "Timezone('" + z.name + "')"
}

// abbr is tzname() at an instant.
func (z *TZ) abbr(unix int64) string {
	if z.loc != nil {
		n, _ := time.Unix(unix, 0).In(z.loc).Zone()
		return n
	}
	if z.name != "" {
		return z.name
	}
	if z.offset == 0 {
		return "UTC"
	}
	return "UTC" + offsetText(z.offset, ":")
}

// Attr gives what templates use of zones.
func (z *TZ) Attr(name string) (Value, bool, error) {
	switch name {
	case "name", "key":
		if z.kind == TZPendulum {
			return z.name, true, nil
		}
	case "utcoffset":
		return fn(name, "dt", func(_ *Eval, b Bound) Value {
			if d, ok := b.V(0).(*DateTime); ok {
				return &TimeDelta{us: int64(z.utcoffset(d)) * 1e6}
			}
			return nil
		}), true, nil
	case "tzname":
		return fn(name, "dt", func(_ *Eval, b Bound) Value {
			if d, ok := b.V(0).(*DateTime); ok {
				w := &DateTime{days: d.days, us: d.us, tz: z, fold: d.fold}
				return z.abbr(w.unix())
			}
			return nil
		}), true, nil
	case "convert":
		if z.kind == TZPendulum {
			return fn(name, "dt", func(_ *Eval, b Bound) Value { return asDateTime(b.V(0)).inZone(z) }), true, nil
		}
	}
	return nil, false, nil
}

// PyEqual compares zones by what they are.
func (z *TZ) PyEqual(other Value) (bool, bool) {
	o, ok := other.(*TZ)
	if !ok {
		return false, true
	}
	return z.kind == o.kind && z.name == o.name && z.offset == o.offset, true
}

func (z *TZ) utcoffset(d *DateTime) int {
	o0, o1 := z.offsets(d.wall())
	if d.fold == 1 {
		return o1
	}
	return o0
}

// toZone turns the argument of in_timezone() into a zone.
func toZone(v Value) *TZ {
	v = unwrap(v)
	switch x := v.(type) {
	case *TZ:
		return x
	case string, Markup:
		s, _ := strOf(x)
		if strings.EqualFold(s, "local") {
			return UTC
		}
		z, ok := Zone(TZPendulum, s)
		if !ok {
			raise("InvalidTimezone", "%s", s)
		}
		return z
	case nil:
		return UTC
	}
	if f, ok := floatOf(v); ok {
		// A small number is hours, a large one seconds.
		n := int(f)
		if f > -24 && f < 24 {
			n = int(f * 3600)
		}
		return fixedZone(TZPendulum, n)
	}
	if u, ok := v.(*Undefined); ok {
		u.fail()
	}
	raise("TypeError", "expected str, bytes or os.PathLike object, not %s", typeName(v))
	return nil
}
