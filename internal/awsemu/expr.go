package awsemu

import (
	"fmt"
	"strings"

	"github.com/gustflow/gust/internal/store/kv"
)

// The expressions of DynamoDB, as far as the store's driver writes them:
// conditions of comparisons, attribute_exists, attribute_not_exists, begins_with,
// BETWEEN, AND, OR, NOT and parentheses; updates of SET, REMOVE and ADD.

// exprParser reads one expression.
type exprParser struct {
	toks   []string
	names  map[string]string
	values map[string]attr
}

func tokens(s string) []string {
	var out []string
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == ' ':
			i++
		case strings.IndexByte("(),+", c) >= 0:
			out = append(out, s[i:i+1])
			i++
		case strings.IndexByte("<>=", c) >= 0:
			n := 1
			if i+1 < len(s) && (s[i+1] == '=' || c == '<' && s[i+1] == '>') {
				n = 2
			}
			out = append(out, s[i:i+n])
			i += n
		default:
			j := i
			for j < len(s) && strings.IndexByte(" (),+<>=", s[j]) < 0 {
				j++
			}
			out = append(out, s[i:j])
			i = j
		}
	}
	return out
}

func newParser(text string, names map[string]string, values map[string]attr) *exprParser {
	return &exprParser{tokens(text), names, values}
}

func (p *exprParser) peek() string {
	if len(p.toks) == 0 {
		return ""
	}
	return p.toks[0]
}

func (p *exprParser) next() string {
	t := p.peek()
	if t != "" {
		p.toks = p.toks[1:]
	}
	return t
}

func (p *exprParser) want(t string) error {
	if got := p.next(); got != t {
		return fmt.Errorf("expected %q, found %q", t, got)
	}
	return nil
}

func (p *exprParser) name() (string, error) {
	t := p.next()
	if strings.HasPrefix(t, "#") {
		if n, ok := p.names[t]; ok {
			return n, nil
		}
		return "", fmt.Errorf("an expression attribute name used in the document path is not defined; attribute name: %s", t)
	}
	if t == "" || strings.ContainsAny(t, "():,<>=") {
		return "", fmt.Errorf("expected an attribute, found %q", t)
	}
	return t, nil
}

func (p *exprParser) value() (kv.Value, error) {
	t := p.next()
	v, ok := p.values[t]
	if !ok {
		return kv.Value{}, fmt.Errorf("an expression attribute value used in expression is not defined; attribute value: %s", t)
	}
	return v.value()
}

// condition reads a whole condition.
func (p *exprParser) condition() (kv.Cond, error) {
	c, err := p.or()
	if err == nil && len(p.toks) > 0 {
		err = fmt.Errorf("unexpected %q", p.peek())
	}
	return c, err
}

func (p *exprParser) or() (kv.Cond, error) { return p.joined("OR", p.and, kv.Or) }

func (p *exprParser) and() (kv.Cond, error) { return p.joined("AND", p.term, kv.And) }

func (p *exprParser) joined(word string, sub func() (kv.Cond, error), join func(...kv.Cond) kv.Cond) (kv.Cond, error) {
	c, err := sub()
	if err != nil {
		return c, err
	}
	all := []kv.Cond{c}
	for p.peek() == word {
		p.next()
		if c, err = sub(); err != nil {
			return c, err
		}
		all = append(all, c)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return join(all...), nil
}

var comparisons = map[string]func(string, kv.Value) kv.Cond{"=": kv.Eq, "<": kv.Lt, "<=": kv.Le, ">": kv.Gt, ">=": kv.Ge}

func (p *exprParser) term() (kv.Cond, error) {
	switch p.peek() {
	case "NOT":
		p.next()
		c, err := p.term()
		return kv.Not(c), err
	case "(":
		p.next()
		c, err := p.or()
		if err != nil {
			return c, err
		}
		return c, p.want(")")
	case "attribute_exists", "attribute_not_exists":
		exists := p.next() == "attribute_exists"
		if err := p.want("("); err != nil {
			return kv.Cond{}, err
		}
		n, err := p.name()
		if err != nil {
			return kv.Cond{}, err
		}
		c := kv.Present(n)
		switch {
		case n == kv.AttrPK && exists:
			c = kv.Exists()
		case n == kv.AttrPK:
			c = kv.NotExists()
		case !exists:
			c = kv.Missing(n)
		}
		return c, p.want(")")
	}
	n, err := p.name()
	if err != nil {
		return kv.Cond{}, err
	}
	op := p.next()
	compare := comparisons[op]
	if compare == nil {
		return kv.Cond{}, fmt.Errorf("the operator %q is not modelled", op)
	}
	v, err := p.value()
	if err != nil {
		return kv.Cond{}, err
	}
	return compare(n, v), nil
}

// keyCondition reads the condition of a query on a partition and a sort key.
func (p *exprParser) keyCondition(pk, sk string) (string, kv.Range, error) {
	var part string
	var r kv.Range
	text := func() (string, error) {
		v, err := p.value()
		return v.Str(), err
	}
	for {
		if p.peek() == "begins_with" {
			p.next()
			err := p.want("(")
			var n string
			if err == nil {
				n, err = p.name()
			}
			if err == nil && n != sk {
				err = fmt.Errorf("begins_with on %s", n)
			}
			if err == nil {
				err = p.want(",")
			}
			if err == nil {
				r.Prefix, err = text()
			}
			if err == nil {
				err = p.want(")")
			}
			if err != nil {
				return "", r, err
			}
		} else {
			n, err := p.name()
			if err != nil {
				return "", r, err
			}
			switch op := p.next(); {
			case n == pk && op == "=":
				part, err = text()
			case n == sk && op == "=":
				r.From, err = text()
				r.To = r.From
			case n == sk && op == ">=":
				r.From, err = text()
			case n == sk && op == "<=":
				r.To, err = text()
			case n == sk && op == "BETWEEN":
				if r.From, err = text(); err == nil {
					if err = p.want("AND"); err == nil {
						r.To, err = text()
					}
				}
			default:
				err = fmt.Errorf("the key condition %s %s is not modelled", n, op)
			}
			if err != nil {
				return "", r, err
			}
		}
		if p.peek() != "AND" {
			break
		}
		p.next()
	}
	if part == "" || len(p.toks) > 0 {
		return "", r, fmt.Errorf("the key condition is not understood at %q", p.peek())
	}
	return part, r, nil
}

// update reads an update into the changes of an operation.
func (p *exprParser) update(op *kv.Op) error {
	index := map[kv.IndexName]kv.Key{}
	verb := ""
	for len(p.toks) > 0 {
		switch p.peek() {
		case "SET", "REMOVE", "ADD":
			verb = p.next()
			continue
		case ",":
			p.next()
			continue
		}
		n, err := p.name()
		if err != nil {
			return err
		}
		var v kv.Value
		switch verb {
		case "SET":
			if err := p.want("="); err != nil {
				return err
			}
			if p.peek() == "if_not_exists" { // the driver's marker for "no expiry": no change
				for p.next() != ")" {
					if len(p.toks) == 0 {
						return fmt.Errorf("if_not_exists is not closed")
					}
				}
				continue
			}
			if v, err = p.value(); err != nil {
				return err
			}
		case "ADD":
			if v, err = p.value(); err != nil {
				return err
			}
			op.Sets = append(op.Sets, kv.Add(n, v.Int()))
			continue
		case "REMOVE":
		default:
			return fmt.Errorf("the update begins with %q", n)
		}
		if name, part, ok := indexAttr(n); ok {
			k := index[name]
			if part == kv.AttrPK {
				k.PK = v.Str()
			} else {
				k.SK = v.Str()
			}
			index[name] = k
			continue
		}
		switch {
		case n == kv.AttrExpiresAt:
			at := v.Int() // 0 for "-", and for REMOVE
			op.ExpiresAt = &at
		case verb == "REMOVE":
			op.Sets = append(op.Sets, kv.Remove(n))
		default:
			op.Sets = append(op.Sets, kv.Assign(n, v))
		}
	}
	for _, ix := range kv.DefaultSchema().Indexes {
		if k, ok := index[ix.Name]; ok {
			op.Indexes = append(op.Indexes, kv.IndexChange{Index: ix.Name, Key: k})
		}
	}
	return nil
}

// indexAttr tells "gsi1pk" from other attributes.
func indexAttr(n string) (kv.IndexName, string, bool) {
	for _, ix := range kv.DefaultSchema().Indexes {
		if part, ok := strings.CutPrefix(n, string(ix.Name)); ok && (part == kv.AttrPK || part == kv.AttrSK) {
			return ix.Name, part, true
		}
	}
	return "", "", false
}
