package dagspec

import "strings"

// fold applies __and__, __or__ and __join__. It works on a deep copy of the
// tree, as dag-factory does; objects are not entered.
func (l *loader) fold(v value, field string) (value, error) {
	switch v := v.(type) {
	case *dict:
		for _, op := range []string{"__and__", "__or__", "__join__"} {
			raw, ok := v.lookup(op)
			if !ok {
				continue
			}
			items, err := iterate(raw)
			if err != nil {
				return nil, located(err.hint("%s expects a list", op), join(field, op), v.at(op))
			}
			for i := range items {
				x, err := l.fold(items[i], join(field, op))
				if err != nil {
					return nil, err
				}
				items[i] = x
			}
			return reduce(op, items), nil
		}
		out := &dict{entries: make([]entry, len(v.entries))}
		for i, e := range v.entries {
			x, err := l.fold(e.val, join(field, pyStr(e.key)))
			if err != nil {
				return nil, err
			}
			e.val = x
			out.entries[i] = e
		}
		if len(out.entries) >= indexFrom {
			out.reindex()
		}
		return out, nil
	case *list:
		out := &list{items: make([]item, len(v.items))}
		for i, it := range v.items {
			x, err := l.fold(it.val, field)
			if err != nil {
				return nil, err
			}
			out.items[i] = item{x, it.pos}
		}
		return out, nil
	}
	return v, nil
}

// iterate is Python's iteration over a list, tuple, set, dict (keys) or text.
func iterate(v value) ([]value, *pyError) {
	switch v := v.(type) {
	case *list:
		out := make([]value, len(v.items))
		for i := range v.items {
			out[i] = v.items[i].val
		}
		return out, nil
	case *tuple:
		return append([]value(nil), v.items...), nil
	case *set:
		return append([]value(nil), v.items...), nil
	case *dict:
		out := make([]value, len(v.entries))
		for i := range v.entries {
			out[i] = v.entries[i].key
		}
		return out, nil
	case string:
		var out []value
		for _, r := range v {
			out = append(out, string(r))
		}
		return out, nil
	}
	return nil, pyErr("TypeError", "'%s' object is not iterable", typeName(v))
}

func reduce(op string, items []value) value {
	text := func(sep, open, closing string) string {
		parts := make([]string, len(items))
		for i, x := range items {
			parts[i] = pyStr(x)
		}
		return open + strings.Join(parts, sep) + closing
	}
	if op == "__join__" {
		return text("", "", "")
	}
	if len(items) == 0 {
		return "()" // reduce of nothing is a TypeError, so text
	}
	acc := items[0]
	for _, x := range items[1:] {
		r, ok := operate(op == "__and__", acc, x)
		if !ok {
			if op == "__and__" {
				return text(" & ", "(", ")")
			}
			return text(" | ", "(", ")")
		}
		acc = r
	}
	return acc
}

// operate is a & b or a | b.
func operate(and bool, a, b value) (value, bool) {
	ao, ok1 := a.(*object)
	bo, ok2 := b.(*object)
	if ok1 && ok2 && ao.isAsset() && bo.isAsset() {
		if and {
			return combine(classAll, kindAssetAll, ao, bo), true
		}
		return combine(classAny, kindAssetAny, ao, bo), true
	}
	x, ok1 := a.(int64)
	y, ok2 := b.(int64)
	if ok1 && ok2 {
		if and {
			return x & y, true
		}
		return x | y, true
	}
	p, ok1 := a.(bool)
	q, ok2 := b.(bool)
	if ok1 && ok2 {
		if and {
			return p && q, true
		}
		return p || q, true
	}
	if x, ok := a.(*dict); ok && !and {
		if y, ok := b.(*dict); ok {
			out := x.clone()
			for _, e := range y.entries {
				out.set(e)
			}
			return out, true
		}
	}
	return nil, false
}
