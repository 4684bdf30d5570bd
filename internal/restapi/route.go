package restapi

import (
	"net/url"
	"sort"
	"strings"
)

// node is one segment of the tree of routes. A static child is preferred to a
// parameter, that to a tail (…} that takes slashes too).
type node struct {
	static map[string]*node
	param  *node
	tail   *node
	ops    map[string]*operation // by method
}

// add puts an operation below its path: segments, {name}, or a last {name...}.
func (n *node) add(op *operation) {
	for _, seg := range strings.Split(strings.TrimPrefix(op.Path, "/"), "/") {
		switch {
		case strings.HasPrefix(seg, "{") && strings.HasSuffix(seg, "...}"):
			op.params = append(op.params, seg[1:len(seg)-4])
			if n.tail == nil {
				n.tail = &node{}
			}
			n = n.tail
		case strings.HasPrefix(seg, "{"):
			op.params = append(op.params, seg[1:len(seg)-1])
			if n.param == nil {
				n.param = &node{}
			}
			n = n.param
		default:
			if n.static == nil {
				n.static = map[string]*node{}
			}
			if n.static[seg] == nil {
				n.static[seg] = &node{}
			}
			n = n.static[seg]
		}
	}
	if n.ops == nil {
		n.ops = map[string]*operation{}
	}
	if have := n.ops[op.Method]; have != nil {
		panic("restapi: " + op.Method + " " + op.Path + " is registered twice, by " + have.ID + " and " + op.ID)
	}
	n.ops[op.Method] = op
}

// match is an operation with the values of its path, or what else the path allows.
type match struct {
	op      *operation
	values  []string
	allowed map[string]bool // methods of routes of this path
}

// find looks a request up. Segments are decoded one by one, so that an encoded
// slash is part of its segment.
func (n *node) find(method, escapedPath string) match {
	raw := strings.Split(strings.TrimPrefix(escapedPath, "/"), "/")
	segs := make([]string, len(raw))
	for i, s := range raw {
		d, err := url.PathUnescape(s)
		if err != nil {
			return match{}
		}
		segs[i] = d
	}
	m := match{}
	n.walk(method, segs, nil, &m)
	return m
}

func (n *node) walk(method string, segs, values []string, m *match) bool {
	if len(segs) == 0 {
		if n.ops == nil {
			return false
		}
		if op := n.ops[method]; op != nil {
			m.op, m.values = op, append([]string(nil), values...)
			return true
		}
		if m.allowed == nil {
			m.allowed = map[string]bool{}
		}
		for k := range n.ops {
			m.allowed[k] = true
		}
		return false
	}
	if c := n.static[segs[0]]; c != nil && c.walk(method, segs[1:], values, m) {
		return true
	}
	if n.param != nil && segs[0] != "" && n.param.walk(method, segs[1:], append(values, segs[0]), m) {
		return true
	}
	if n.tail != nil {
		if rest := strings.Join(segs, "/"); rest != "" {
			return n.tail.walk(method, nil, append(values, rest), m)
		}
	}
	return false
}

// allow is the value of the Allow header.
func (m match) allow() string {
	var l []string
	for k := range m.allowed {
		l = append(l, k)
	}
	sort.Strings(l)
	return strings.Join(l, ", ")
}
