package restapi

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode"
)

// Paging is embedded in the inputs of lists.
type Paging struct {
	Limit  int `query:"limit" default:"50" min:"0"`
	Offset int `query:"offset" default:"0" min:"0"`
}

// CursorPaging adds paging by cursor; with a cursor the offset is ignored.
type CursorPaging struct {
	Paging
	Cursor *string `query:"cursor" doc:"Pass an empty text for the first page, then next_cursor of the answer."`
}

// Ordering is embedded in the inputs of lists.
type Ordering struct {
	OrderBy []string `query:"order_by" doc:"Attributes to order by; a leading - is descending."`
}

// TimeRange are the bounds of a date; a null date is in no range that has one.
// The types below are the same under the names of their parameters.
type TimeRange struct{ Gte, Gt, Lte, Lt *Time }

// Ranges of dates by parameter.
type (
	RunAfterRange struct {
		Gte *Time `query:"run_after_gte" json:"run_after_gte"`
		Gt  *Time `query:"run_after_gt" json:"run_after_gt"`
		Lte *Time `query:"run_after_lte" json:"run_after_lte"`
		Lt  *Time `query:"run_after_lt" json:"run_after_lt"`
	}
	LogicalDateRange struct {
		Gte *Time `query:"logical_date_gte" json:"logical_date_gte"`
		Gt  *Time `query:"logical_date_gt" json:"logical_date_gt"`
		Lte *Time `query:"logical_date_lte" json:"logical_date_lte"`
		Lt  *Time `query:"logical_date_lt" json:"logical_date_lt"`
	}
	StartDateRange struct {
		Gte *Time `query:"start_date_gte" json:"start_date_gte"`
		Gt  *Time `query:"start_date_gt" json:"start_date_gt"`
		Lte *Time `query:"start_date_lte" json:"start_date_lte"`
		Lt  *Time `query:"start_date_lt" json:"start_date_lt"`
	}
	EndDateRange struct {
		Gte *Time `query:"end_date_gte" json:"end_date_gte"`
		Gt  *Time `query:"end_date_gt" json:"end_date_gt"`
		Lte *Time `query:"end_date_lte" json:"end_date_lte"`
		Lt  *Time `query:"end_date_lt" json:"end_date_lt"`
	}
	UpdatedAtRange struct {
		Gte *Time `query:"updated_at_gte"`
		Gt  *Time `query:"updated_at_gt"`
		Lte *Time `query:"updated_at_lte"`
		Lt  *Time `query:"updated_at_lt"`
	}
	DurationRange struct {
		Gte *float64 `query:"duration_gte" json:"duration_gte"`
		Gt  *float64 `query:"duration_gt" json:"duration_gt"`
		Lte *float64 `query:"duration_lte" json:"duration_lte"`
		Lt  *float64 `query:"duration_lt" json:"duration_lt"`
	}
)

// OK reports whether a date is in the range.
func (r TimeRange) OK(t *time.Time) bool {
	if r == (TimeRange{}) {
		return true
	}
	return t != nil && !t.IsZero() &&
		(r.Gte == nil || !t.Before(r.Gte.Time)) && (r.Gt == nil || t.After(r.Gt.Time)) &&
		(r.Lte == nil || !t.After(r.Lte.Time)) && (r.Lt == nil || t.Before(r.Lt.Time))
}

// OK reports whether a duration is in the range.
func (r DurationRange) OK(x *float64) bool {
	if r == (DurationRange{}) {
		return true
	}
	return x != nil && (r.Gte == nil || *x >= *r.Gte) && (r.Gt == nil || *x > *r.Gt) && (r.Lte == nil || *x <= *r.Lte) && (r.Lt == nil || *x < *r.Lt)
}

// Pattern matches as *_pattern does: anywhere, in any case, % and _ as in SQL,
// alternatives separated by |, and ~ for everything. nil matches everything.
func Pattern(p *string) func(string) bool {
	if p == nil || *p == "~" {
		return func(string) bool { return true }
	}
	var alts [][]rune
	for _, alt := range strings.Split(*p, "|") {
		alts = append(alts, []rune("%"+strings.ToLower(strings.TrimSpace(alt))+"%"))
	}
	return func(s string) bool {
		text := []rune(strings.ToLower(s))
		for _, alt := range alts {
			if like(alt, text) {
				return true
			}
		}
		return false
	}
}

// like is SQL's LIKE, in linear space and without backtracking further than the
// last %.
func like(p, s []rune) bool {
	i, j, star, mark := 0, 0, -1, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '%':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '_' || p[i] == s[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '%' {
		i++
	}
	return i == len(p)
}

// Prefix matches as *_prefix_pattern does: the beginning, in its case, without
// wildcards; trailing characters that are no letters or digits do not count.
func Prefix(p *string) func(string) bool {
	alts := prefixes(p)
	if alts == nil {
		return func(string) bool { return true }
	}
	return func(s string) bool {
		for _, a := range alts {
			if strings.HasPrefix(s, a) {
				return true
			}
		}
		return false
	}
}

// prefixes are the alternatives of a prefix pattern; nil matches everything.
func prefixes(p *string) []string {
	if p == nil || *p == "~" {
		return nil
	}
	var out []string
	for _, alt := range strings.Split(*p, "|") {
		out = append(out, strings.TrimRightFunc(strings.TrimSpace(alt), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }))
	}
	return out
}

// oneIn reports whether a value is in a list; an empty list takes everything.
func oneIn[T comparable](l []T, v T) bool { return len(l) == 0 || slices.Contains(l, v) }

// SortKey is what an item is ordered by. Null comes last whichever way.
type SortKey struct {
	Null bool    `json:"z,omitempty"`
	I    int64   `json:"i,omitempty"`
	F    float64 `json:"f,omitempty"`
	S    string  `json:"s,omitempty"`
}

// ByText, ByInt, ByFloat, ByTime and ByBool make sort keys.
func ByText(s string) SortKey { return SortKey{S: s} }

// ByTextPtr is null for nil.
func ByTextPtr(s *string) SortKey {
	if s == nil {
		return SortKey{Null: true}
	}
	return SortKey{S: *s}
}

// ByInt orders by a number.
func ByInt(n int64) SortKey { return SortKey{I: n} }

// ByFloat is null for nil.
func ByFloat(f *float64) SortKey {
	if f == nil {
		return SortKey{Null: true}
	}
	return SortKey{F: *f}
}

// ByTime is null for nil and the zero time.
func ByTime(t *time.Time) SortKey {
	if t == nil || t.IsZero() {
		return SortKey{Null: true}
	}
	return SortKey{I: t.UnixMicro()}
}

// ByBool orders false before true.
func ByBool(b bool) SortKey {
	if b {
		return SortKey{I: 1}
	}
	return SortKey{}
}

func (k SortKey) compare(o SortKey, desc bool) int {
	if k.Null || o.Null {
		switch {
		case k.Null && o.Null:
			return 0
		case k.Null:
			return 1
		}
		return -1
	}
	c := cmp.Or(cmp.Compare(k.I, o.I), cmp.Compare(k.F, o.F), cmp.Compare(k.S, o.S))
	if desc {
		return -c
	}
	return c
}

// Orders says how items may be ordered.
type Orders[T any] struct {
	// By are the attributes by name.
	By map[string]func(T) SortKey
	// Default is the order without order_by.
	Default []string
	// ID breaks ties; it must be unique.
	ID func(T) SortKey
}

// Names lists the attributes, for the description.
func (o Orders[T]) Names() []string {
	var l []string
	for k := range o.By {
		l = append(l, k)
	}
	sort.Strings(l)
	return l
}

type ordered[T any] struct {
	keys []func(T) SortKey
	desc []bool
}

// parse reads order_by. An unknown attribute is 400.
func (o Orders[T]) parse(by []string) (ordered[T], error) {
	var out ordered[T]
	if len(by) == 0 {
		by = o.Default
	}
	for _, b := range by {
		name := strings.TrimPrefix(b, "-")
		f, ok := o.By[name]
		if !ok {
			return out, BadRequest("Ordering with '%s' is disallowed or the attribute does not exist on the model", name)
		}
		out.keys = append(out.keys, f)
		out.desc = append(out.desc, strings.HasPrefix(b, "-"))
	}
	if o.ID != nil {
		out.keys = append(out.keys, o.ID)
		out.desc = append(out.desc, len(by) > 0 && strings.HasPrefix(by[0], "-"))
	}
	return out, nil
}

func (o ordered[T]) of(v T) []SortKey {
	k := make([]SortKey, len(o.keys))
	for i, f := range o.keys {
		k[i] = f(v)
	}
	return k
}

func (o ordered[T]) compare(a, b []SortKey) int {
	for i := range a {
		if c := a[i].compare(b[i], o.desc[i]); c != 0 {
			return c
		}
	}
	return 0
}

// Window reads at most limit items of an access path from a cursor on, and the
// cursor of what follows, "" at the end.
type Window[T any] func(ctx context.Context, cursor string, limit int) ([]T, string, error)

// All makes a Window of a list that is always read whole.
func All[T any](read func(context.Context) ([]T, error)) Window[T] {
	return func(ctx context.Context, _ string, _ int) ([]T, string, error) {
		l, err := read(ctx)
		return l, "", err
	}
}

// Query is a page that is asked for.
type Query struct {
	Limit, Offset int
	Cursor        *string
	OrderBy       []string
}

// Query of a paging.
func (p Paging) query(o Ordering) Query {
	return Query{Limit: p.Limit, Offset: p.Offset, OrderBy: o.OrderBy}
}

func (p CursorPaging) query(o Ordering) Query {
	q := p.Paging.query(o)
	q.Cursor = p.Cursor
	return q
}

// Page is a part of a list.
type Page[T any] struct {
	Items []T
	// Total counts what matches; where TotalLimit is set there may be more.
	Total      int
	TotalLimit *int
	Next, Prev *string
}

// token is what a cursor holds.
type token struct {
	Order  string    `json:"o,omitempty"`
	Window string    `json:"w,omitempty"` // where the items were read from
	Keys   []SortKey `json:"k,omitempty"` // of the item that the page begins after, or ends before
	Back   bool      `json:"b,omitempty"`
}

func (t token) text() *string {
	b, err := json.Marshal(t)
	if err != nil {
		return nil // unreachable: plain values
	}
	return ptrTo(base64.RawURLEncoding.EncodeToString(b))
}

func readToken(s, order string) (t token, err error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil || t.Order != order {
		return t, Errorf(http.StatusBadRequest, "Invalid cursor token: use next_cursor or previous_cursor of an answer with the same order_by")
	}
	return t, nil
}

// List reads a page: a window of the access path, of it what keep takes, ordered.
// Where the path has more than Options.ReadLimit items, Total counts those of the
// window, TotalLimit is set, and Next leads on; an order that is not the path's
// own then holds within a window.
func List[T any](r *Request, q Query, o Orders[T], read Window[T], keep func(T) bool) (Page[T], error) {
	by, err := o.parse(q.OrderBy)
	if err != nil {
		return Page[T]{}, err
	}
	order := strings.Join(q.OrderBy, ",")
	limit := r.API.limit(r, q.Limit)
	var at token
	if q.Cursor != nil && *q.Cursor != "" {
		if at, err = readToken(*q.Cursor, order); err != nil {
			return Page[T]{}, err
		}
		if len(at.Keys) != 0 && len(at.Keys) != len(by.keys) {
			return Page[T]{}, BadRequest("Invalid cursor token: use next_cursor or previous_cursor of an answer with the same order_by")
		}
	}
	items, more, err := read(r.Context(), at.Window, r.API.ReadLimit)
	if err != nil {
		return Page[T]{}, err
	}
	type keyed struct {
		v T
		k []SortKey
	}
	var all []keyed
	for _, v := range items {
		if keep == nil || keep(v) {
			all = append(all, keyed{v, by.of(v)})
		}
	}
	slices.SortStableFunc(all, func(a, b keyed) int { return by.compare(a.k, b.k) })
	p := Page[T]{Total: len(all), Items: []T{}}
	from, to := min(q.Offset, len(all)), 0
	if q.Cursor != nil {
		p.TotalLimit = ptrTo(r.API.ReadLimit)
		from = 0
		if len(at.Keys) > 0 {
			from = sort.Search(len(all), func(i int) bool {
				c := by.compare(all[i].k, at.Keys)
				return c > 0 || at.Back && c == 0
			})
			if at.Back {
				end := from
				from = max(0, end-limit)
				limit = end - from
			}
		}
	}
	to = min(from+limit, len(all))
	for _, x := range all[from:to] {
		p.Items = append(p.Items, x.v)
	}
	if more != "" {
		p.TotalLimit = ptrTo(r.API.ReadLimit)
	}
	if q.Cursor == nil && more == "" {
		return p, nil
	}
	switch {
	case to < len(all) && to > from:
		p.Next = token{Order: order, Window: at.Window, Keys: all[to-1].k}.text()
	case to == len(all) && more != "":
		p.Next = token{Order: order, Window: more}.text()
	}
	if from > 0 && from < len(all) && q.Cursor != nil {
		p.Prev = token{Order: order, Window: at.Window, Keys: all[from].k, Back: true}.text()
	}
	return p, nil
}

// limit is how many items a page has: what is asked for, at most
// maximum_page_limit, and fallback_page_limit where nothing is asked for.
func (a *API) limit(r *Request, asked int) int {
	if !r.URL.Query().Has("limit") && r.RawBody == nil {
		asked = a.FallbackPageLimit
	}
	return min(asked, a.MaximumPageLimit)
}

func (a *API) now() time.Time { return a.Now().UTC().Truncate(time.Microsecond) }
