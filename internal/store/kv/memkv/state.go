package memkv

import (
	"cmp"
	"slices"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/store/kv"
)

// state is one version of all items and index entries. Items in it are never changed, only replaced, so that states
// may share them.
type state struct {
	table   map[string]list // by PK
	indexes []index
}

type index struct {
	kv.Index
	entries map[string]list // by the PK of the index key
}

// list is one partition in order: of the table by SK, of an index by SK of the entry and then by item key.
type list []entry

type entry struct {
	sk   string
	item *kv.Item
}

func (e entry) compare(sk string, key kv.Key) int {
	return cmp.Or(strings.Compare(e.sk, sk), strings.Compare(e.item.PK, key.PK), strings.Compare(e.item.SK, key.SK))
}

func newState(s kv.Schema) *state {
	st := &state{table: map[string]list{}}
	for _, ix := range s.Indexes {
		st.indexes = append(st.indexes, index{Index: ix, entries: map[string]list{}})
	}
	return st
}

func (l list) find(sk string, key kv.Key) (int, bool) {
	i := sort.Search(len(l), func(i int) bool { return l[i].compare(sk, key) >= 0 })
	return i, i < len(l) && l[i].compare(sk, key) == 0
}

func put(m map[string]list, part, sk string, it *kv.Item) {
	l := m[part]
	i, ok := l.find(sk, it.Key)
	if ok {
		l[i].item = it
		return
	}
	m[part] = slices.Insert(l, i, entry{sk, it})
}

func remove(m map[string]list, part, sk string, key kv.Key) {
	l := m[part]
	i, ok := l.find(sk, key)
	switch {
	case !ok:
	case len(l) == 1:
		delete(m, part)
	default:
		m[part] = slices.Delete(l, i, i+1)
	}
}

func (st *state) get(key kv.Key) *kv.Item {
	l := st.table[key.PK]
	if i, ok := l.find(key.SK, key); ok {
		return l[i].item
	}
	return nil
}

func (st *state) set(key kv.Key, next *kv.Item) {
	cur := st.get(key)
	if next == nil {
		remove(st.table, key.PK, key.SK, key)
	} else {
		put(st.table, key.PK, key.SK, next)
	}
	for _, ix := range st.indexes {
		var had, has kv.Key
		if cur != nil {
			had = cur.Index[ix.Name]
		}
		if next != nil {
			has = next.Index[ix.Name]
		}
		if !had.IsZero() && had != has {
			remove(ix.entries, had.PK, had.SK, key)
		}
		if !has.IsZero() {
			put(ix.entries, has.PK, has.SK, next)
		}
	}
}

// query returns one page; q is valid and after is its cursor.
func (st *state) query(q kv.Query, after *kv.Cursor) kv.Page {
	var l list
	project := func(it *kv.Item) kv.Item { return it.Clone() }
	if q.Index == "" {
		l = st.table[q.PK]
	} else {
		i := slices.IndexFunc(st.indexes, func(ix index) bool { return ix.Name == q.Index })
		l = st.indexes[i].entries[q.PK]
		project = func(it *kv.Item) kv.Item {
			out, _ := it.Project(st.indexes[i].Index)
			return out
		}
	}
	lo, hi := bounds(l, q.SK)
	if after != nil {
		i, found := l.find(after.SK(), after.Key)
		if q.Descending {
			hi = min(hi, i)
		} else {
			if found {
				i++
			}
			lo = max(lo, i)
		}
	}
	var page kv.Page
	bytes := 0
	for lo < hi {
		var e entry
		if q.Descending {
			hi--
			e = l[hi]
		} else {
			e = l[lo]
			lo++
		}
		it := project(e.item)
		page.Items = append(page.Items, it)
		bytes += it.Size()
		// Like DynamoDB, a full page has a cursor even when nothing follows.
		if len(page.Items) == q.Limit || bytes >= kv.MaxPageBytes {
			page.Cursor = kv.CursorAfter(q, it)
			break
		}
	}
	return page
}

// bounds returns the half-open range of positions of l whose sort keys are in r.
func bounds(l list, r kv.Range) (lo, hi int) {
	hi = len(l)
	switch {
	case r.Prefix != "":
		lo = sort.Search(len(l), func(i int) bool { return l[i].sk >= r.Prefix })
		hi = lo + sort.Search(len(l)-lo, func(i int) bool { return !strings.HasPrefix(l[lo+i].sk, r.Prefix) })
	default:
		if r.From != "" {
			lo = sort.Search(len(l), func(i int) bool { return l[i].sk >= r.From })
		}
		if r.To != "" {
			hi = sort.Search(len(l), func(i int) bool { return l[i].sk > r.To })
		}
	}
	return lo, hi
}

// replica is a state that follows another one lag changes behind.
type replica struct {
	state   *state
	lag     int // 0: state is the live one itself
	pending []change
}

type change struct {
	key  kv.Key
	next *kv.Item
}

func newReplica(live *state, lag int) *replica {
	if lag <= 0 {
		return &replica{state: live}
	}
	r := &replica{state: &state{table: map[string]list{}}, lag: lag}
	for _, ix := range live.indexes {
		r.state.indexes = append(r.state.indexes, index{Index: ix.Index, entries: map[string]list{}})
	}
	return r
}

func (r *replica) push(key kv.Key, next *kv.Item) {
	if r.lag == 0 {
		return
	}
	r.pending = append(r.pending, change{key, next})
	r.advance(r.lag)
}

func (r *replica) advance(lag int) {
	for len(r.pending) > lag {
		r.state.set(r.pending[0].key, r.pending[0].next)
		r.pending = r.pending[1:]
	}
}
