package restapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Time is a date of the API: ISO 8601 with a zone, to the microsecond, Z for
// UTC. A date keeps the offset it came with.
type Time struct{ time.Time }

// MarshalJSON writes the date as Airflow does: microseconds only where there are some.
func (t Time) MarshalJSON() ([]byte, error) { return []byte(`"` + t.Text() + `"`), nil }

// UnmarshalJSON reads what MarshalJSON wrote and every other date with a zone.
func (t *Time) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, aware, err := parseTime(s)
	if err != nil {
		return err
	}
	if !aware {
		return fmt.Errorf("date %q has no time zone", s)
	}
	t.Time = v
	return nil
}

// Text is the date as in JSON, without quotes.
func (t Time) Text() string {
	layout := "2006-01-02T15:04:05Z07:00"
	if t.Nanosecond()/1000 != 0 {
		layout = "2006-01-02T15:04:05.000000Z07:00"
	}
	return t.Format(layout)
}

// At returns the date in UTC.
func At(t time.Time) Time { return Time{t.UTC()} }

// AtPtr returns the date in UTC, nil for none.
func AtPtr(t *time.Time) *Time {
	if t == nil || t.IsZero() {
		return nil
	}
	v := At(*t)
	return &v
}

// Opt is a member of a body that tells absent from null.
type Opt[T any] struct {
	Set  bool // the member was there
	Null bool // and it was null
	V    T
}

// Ptr returns the value, nil if it is absent or null.
func (o Opt[T]) Ptr() *T {
	if !o.Set || o.Null {
		return nil
	}
	v := o.V
	return &v
}

// opt is what the binder needs of an Opt.
type opt interface {
	mark(null bool)
	value() any // pointer to V
}

func (o *Opt[T]) mark(null bool) { o.Set, o.Null = true, null }
func (o *Opt[T]) value() any     { return &o.V }

// optional tells the OpenAPI generator the type within.
func (o Opt[T]) inner() any { var v T; return v }

// ptrTo returns a pointer to a value.
func ptrTo[T any](v T) *T { return &v }

// orNil returns nil for the empty text: Airflow's null.
func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// orEmpty makes a nil list an empty one, which JSON shows as [].
func orEmpty[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

var timeLayouts = []string{
	"2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04Z07:00", "2006-01-02T15:04Z0700",
	"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02",
}

// parseTime reads an ISO 8601 date; aware is false if it has no zone, and it is
// taken as UTC then.
func parseTime(s string) (t time.Time, aware bool, err error) {
	if len(s) < 10 {
		return t, false, fmt.Errorf("input is too short")
	}
	norm := s
	if len(s) > 10 && (s[10] == ' ' || s[10] == 't' || s[10] == '_') {
		norm = s[:10] + "T" + s[11:]
	}
	norm = strings.Replace(norm, ",", ".", 1)
	if strings.HasSuffix(norm, "z") {
		norm = norm[:len(norm)-1] + "Z"
	}
	for i, layout := range timeLayouts {
		if t, err = time.Parse(layout, norm); err == nil {
			return t.Truncate(time.Microsecond), i < 4, nil
		}
	}
	return time.Time{}, false, fmt.Errorf("invalid character in date")
}

// isoDuration writes a duration as ISO 8601, as pydantic does (P1DT2H3M4.5S).
func isoDuration(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	days := d / (24 * time.Hour)
	d -= days * 24 * time.Hour
	var b strings.Builder
	b.WriteString(sign + "P")
	if days > 0 {
		fmt.Fprintf(&b, "%dD", days)
	}
	if d == 0 {
		if days == 0 {
			b.WriteString("T0S")
		}
		return b.String()
	}
	b.WriteString("T")
	if h := d / time.Hour; h > 0 {
		fmt.Fprintf(&b, "%dH", h)
		d -= h * time.Hour
	}
	if m := d / time.Minute; m > 0 {
		fmt.Fprintf(&b, "%dM", m)
		d -= m * time.Minute
	}
	if d > 0 {
		fmt.Fprintf(&b, "%s", strings.TrimRight(strings.TrimRight(fmt.Sprintf("%d.%06d", d/time.Second, d%time.Second/time.Microsecond), "0"), "."))
		b.WriteString("S")
	}
	return b.String()
}
