package dagspec

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readYAML parses a file's text as PyYAML's FullLoader does and returns its
// one document (nil for an empty one).
func (l *loader) readYAML(file int32, text string) (v value, err error) {
	defer func() {
		if r := recover(); r != nil { // a bug of the YAML library must not stop other files
			err = pyErr("ScannerError", "the file cannot be read as YAML: %v", r).in("", pos{file, 1, 1})
		}
	}()
	if i := strings.IndexFunc(text, notPrintable); i >= 0 {
		line := strings.Count(text[:i], "\n") + 1
		return nil, pyErr("ReaderError", "unacceptable character #x%04x: special characters are not allowed", []rune(text[i:])[0]).
			in("", pos{file, int32(line), int32(i - strings.LastIndexByte(text[:i], '\n'))})
	}
	dec := yaml.NewDecoder(strings.NewReader(text))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, yamlSyntax(file, text, err)
	}
	if err := dec.Decode(&second); err == nil {
		return nil, pyErr("ComposerError", "expected a single document in the stream").hint("a DAG file is one YAML document: remove the '---' line").
			in("", pos{file, int32(second.Line), 1})
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlSyntax(file, text, err)
	}
	if doc.Kind == 0 || len(doc.Content) == 0 {
		return nil, nil
	}
	c := &constructor{l: l, file: file, made: map[*yaml.Node]value{}, open: map[*yaml.Node]bool{}}
	return c.node(doc.Content[0], 0)
}

// notPrintable reports characters PyYAML refuses.
func notPrintable(r rune) bool {
	return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0x7f || r >= 0x80 && r < 0xa0 && r != 0x85 || r >= 0xd800 && r < 0xe000 || r == 0xfffe || r == 0xffff
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// pyYAMLErrors maps messages of the YAML library to PyYAML's class and first line.
var pyYAMLErrors = []struct{ contains, class, msg string }{
	{"mapping values are not allowed", "ScannerError", "mapping values are not allowed here"},
	{"did not find expected ',' or '}'", "ParserError", "while parsing a flow mapping"},
	{"did not find expected ',' or ']'", "ParserError", "while parsing a flow sequence"},
	{"did not find expected '-' indicator", "ParserError", "while parsing a block collection"},
	{"did not find expected key", "ParserError", "while parsing a block mapping"},
	{"did not find expected node content", "ParserError", "while parsing a flow node"},
	{"did not find expected <document start>", "ParserError", "expected '<document start>', but found '<block mapping start>'"},
	{"cannot start any token", "ScannerError", "while scanning for the next token"},
	{"violates indentation", "ScannerError", "while scanning for the next token"},
	{"could not find expected ':'", "ScannerError", "while scanning a simple key"},
	{"found unexpected end of stream", "ScannerError", "while scanning a quoted scalar"},
	{"found unexpected document indicator", "ScannerError", "while scanning a quoted scalar"},
	{"unknown escape character", "ScannerError", "while scanning a double-quoted scalar"},
	{"did not find expected hexdecimal", "ScannerError", "while scanning a double-quoted scalar"},
	{"block sequence entries are not allowed", "ScannerError", "sequence entries are not allowed here"},
	{"found a tab character", "ScannerError", "while scanning a block scalar"},
	{"undefined tag handle", "ParserError", "while parsing a node"},
	{"did not find expected alphabetic or numeric character", "ScannerError", "while scanning an alias"},
}

var unknownAnchor = regexp.MustCompile(`unknown anchor '([^']*)' referenced`)

func yamlSyntax(file int32, text string, err error) error {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		return pyErr("YAMLError", "%v", err).in("", pos{file, 1, 1})
	}
	n, _ := strconv.Atoi(m[1])
	lines := strings.Split(text, "\n")
	if n <= 0 {
		n = 1
		if a := unknownAnchor.FindStringSubmatch(m[2]); a != nil {
			for i, s := range lines {
				if strings.Contains(s, "*"+a[1]) {
					n = i + 1
					break
				}
			}
		}
	}
	n = min(n, len(lines))
	for n > 1 && strings.TrimSpace(lines[n-1]) == "" {
		n--
	}
	line := lines[n-1]
	at := pos{file, int32(n), int32(len(line) - len(strings.TrimLeft(line, " \t")) + 1)}
	if a := unknownAnchor.FindStringSubmatch(m[2]); a != nil {
		if i := strings.Index(line, "*"+a[1]); i >= 0 {
			at.col = int32(i + 1)
		}
		return pyErr("ComposerError", "found undefined alias '%s'", a[1]).hint("define it before its use with &%s", a[1]).in("", at)
	}
	if strings.Contains(m[2], "cannot start any token") && strings.HasPrefix(strings.TrimLeft(line, " "), "\t") {
		return pyErr("ScannerError", "while scanning for the next token").hint("YAML indents with spaces, found a tab").in("", at)
	}
	for _, e := range pyYAMLErrors {
		if strings.Contains(m[2], e.contains) {
			return pyErr(e.class, "%s", e.msg).hint("%s", m[2]).in("", at)
		}
	}
	return pyErr("ParserError", "%s", m[2]).in("", at)
}

// constructor turns nodes into values.
type constructor struct {
	l    *loader
	file int32
	made map[*yaml.Node]value // anchored nodes: aliases share identity
	open map[*yaml.Node]bool
}

func (c *constructor) at(n *yaml.Node) pos { return pos{c.file, int32(n.Line), int32(n.Column)} }

func (c *constructor) node(n *yaml.Node, depth int) (value, error) {
	if depth > c.l.limits.Depth {
		return nil, pyErr("RecursionError", "values are nested deeper than %d levels", c.l.limits.Depth).in("", c.at(n))
	}
	if c.l.nodes++; c.l.nodes > c.l.limits.Nodes {
		return nil, pyErr("ComposerError", "the file has more than %d values", c.l.limits.Nodes).hint("split it").in("", c.at(n))
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
		if c.open[n] {
			return nil, pyErr("RecursionError", "maximum recursion depth exceeded").hint("the alias *%s contains itself", n.Anchor).in("", c.at(n))
		}
	}
	if n.Anchor != "" {
		if v, ok := c.made[n]; ok {
			return v, nil
		}
		c.open[n] = true
		defer delete(c.open, n)
	}
	v, err := c.fresh(n, depth)
	if err == nil && n.Anchor != "" {
		c.made[n] = v
	}
	return v, err
}

const yamlTag = "tag:yaml.org,2002:"

func (c *constructor) fresh(n *yaml.Node, depth int) (value, error) {
	tag := ""
	if n.Style&yaml.TaggedStyle != 0 {
		tag = n.Tag
		if strings.HasPrefix(tag, "!!") {
			tag = yamlTag + tag[2:]
		}
	}
	short, standard := strings.CutPrefix(tag, yamlTag)
	switch n.Kind {
	case yaml.ScalarNode:
		switch {
		case tag == "" && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0:
			return c.plain(n)
		case tag == "" || tag == "!":
			return n.Value, nil
		case standard:
			return c.taggedScalar(n, short)
		}
	case yaml.SequenceNode:
		if tag == "" || short == "seq" || short == "python/list" || short == "python/tuple" {
			l := &list{items: make([]item, 0, len(n.Content))}
			for _, x := range n.Content {
				v, err := c.node(x, depth+1)
				if err != nil {
					return nil, err
				}
				l.items = append(l.items, item{v, c.at(x)})
			}
			if short == "python/tuple" {
				t := &tuple{}
				for _, it := range l.items {
					t.items = append(t.items, it.val)
				}
				return t, nil
			}
			return l, nil
		}
	case yaml.MappingNode:
		if tag == "" || short == "map" || short == "python/dict" {
			return c.mapping(n, depth)
		}
		if short == "set" {
			d, err := c.mapping(n, depth)
			if err != nil {
				return nil, err
			}
			s := &set{}
			for _, e := range d.entries {
				s.items = append(s.items, e.key)
			}
			return s, nil
		}
	}
	return nil, pyErr("ConstructorError", "could not determine a constructor for the tag '%s'", tag).
		hint("%s", tagAdvice(tag)).in("", c.at(n))
}

func tagAdvice(tag string) string {
	switch tag {
	case "!and", "!or", "!join":
		return "write __" + tag[1:] + "__: [ … ] instead (the tag was removed in dag-factory 1.0)"
	}
	return "only YAML's standard tags are known; objects are written with __type__"
}

// mapping applies merge keys, then builds the dict: the first place of a key
// counts for the order, the last value wins.
func (c *constructor) mapping(n *yaml.Node, depth int) (*dict, error) {
	pairs, err := c.flatten(n, map[*yaml.Node]bool{})
	if err != nil {
		return nil, err
	}
	d := &dict{entries: make([]entry, 0, len(pairs)/2)}
	for i := 0; i+1 < len(pairs); i += 2 {
		k, err := c.node(pairs[i], depth+1)
		if err != nil {
			return nil, err
		}
		switch k.(type) {
		case *dict, *list, *set:
			return nil, pyErr("ConstructorError", "while constructing a mapping").hint("found unhashable key: a key must be a scalar").in("", c.at(pairs[i]))
		}
		v, err := c.node(pairs[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		d.set(entry{k, v, c.at(pairs[i]), c.at(pairs[i+1])})
	}
	return d, nil
}

func (c *constructor) flatten(n *yaml.Node, seen map[*yaml.Node]bool) ([]*yaml.Node, error) {
	merged := false
	for i := 0; i+1 < len(n.Content); i += 2 {
		if isMerge(n.Content[i]) {
			merged = true
			break
		}
	}
	if !merged {
		return n.Content, nil
	}
	if seen[n] {
		return nil, pyErr("RecursionError", "maximum recursion depth exceeded").hint("<< merges a mapping into itself").in("", c.at(n))
	}
	seen[n] = true
	defer delete(seen, n)
	var head, own []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if !isMerge(k) {
			own = append(own, k, v)
			continue
		}
		src := v
		if v.Kind == yaml.AliasNode {
			v = v.Alias
		}
		switch v.Kind {
		case yaml.MappingNode:
			p, err := c.flatten(v, seen)
			if err != nil {
				return nil, err
			}
			head = append(head, p...)
		case yaml.SequenceNode:
			for j := len(v.Content) - 1; j >= 0; j-- {
				m := v.Content[j]
				if m.Kind == yaml.AliasNode {
					m = m.Alias
				}
				if m.Kind != yaml.MappingNode {
					return nil, pyErr("ConstructorError", "while constructing a mapping").hint("<< expects a mapping or a list of mappings").in("", c.at(m))
				}
				p, err := c.flatten(m, seen)
				if err != nil {
					return nil, err
				}
				head = append(head, p...)
			}
		default:
			return nil, pyErr("ConstructorError", "while constructing a mapping").hint("<< expects a mapping or a list of mappings").in("", c.at(src))
		}
		if len(head) > 2*c.l.limits.Nodes {
			return nil, pyErr("ComposerError", "<< merges more than %d values", c.l.limits.Nodes).in("", c.at(k))
		}
	}
	return append(head, own...), nil
}

func isMerge(k *yaml.Node) bool {
	return k.Kind == yaml.ScalarNode && (k.Value == "<<" && k.Style == 0 || k.Tag == yamlTag+"merge")
}

func (c *constructor) plain(n *yaml.Node) (value, error) {
	v, err := resolveScalar(n.Value)
	if err != nil {
		var e *pyError
		if errors.As(err, &e) {
			return nil, e.in("", c.at(n))
		}
		return nil, err
	}
	return v, nil
}

func (c *constructor) taggedScalar(n *yaml.Node, short string) (value, error) {
	fail := func(expected string) (value, error) {
		return nil, pyErr("ValueError", "%q is not %s", n.Value, expected).in("", c.at(n))
	}
	s := n.Value
	switch short {
	case "str", "python/str", "python/unicode":
		return s, nil
	case "int", "python/int", "python/long":
		if v, ok := parseInt(s); ok {
			return v, nil
		}
		return fail("an integer")
	case "float", "python/float":
		if v, ok := parseFloat(s); ok {
			return v, nil
		}
		return fail("a number")
	case "bool", "python/bool":
		if v, ok := yamlBool[strings.ToLower(s)]; ok {
			return v, nil
		}
		return nil, pyErr("KeyError", "'%s'", strings.ToLower(s)).hint("expected a boolean").in("", c.at(n))
	case "null", "python/none":
		return nil, nil
	case "timestamp":
		v, ok, err := parseTimestamp(s)
		if err != nil || ok {
			return v, err
		}
		return fail("a timestamp")
	case "binary", "python/bytes":
		b, err := base64.StdEncoding.DecodeString(strings.Map(func(r rune) rune {
			if r == ' ' || r == '\n' || r == '\t' {
				return -1
			}
			return r
		}, s))
		if err != nil {
			return nil, pyErr("ConstructorError", "failed to decode base64 data: %v", err).in("", c.at(n))
		}
		return &pyBytes{b}, nil
	}
	if name, ok := strings.CutPrefix(short, "python/name:"); ok {
		return &callable{module: modulePart(name), attr: attrPart(name), byYAML: true}, nil
	}
	return nil, pyErr("ConstructorError", "could not determine a constructor for the tag '%s'", yamlTag+short).
		hint("%s", tagAdvice("")).in("", c.at(n))
}

// utf8BOM is dropped as Python's yaml reader does.
var utf8BOM = []byte("\ufeff")

func trimBOM(b []byte) []byte { return bytes.TrimPrefix(b, utf8BOM) }

var errTooLarge = func(n, limit int) error {
	return pyErr("ValueError", "the file has %d bytes: at most %d are read", n, limit).hint("split it")
}

func modulePart(path string) string {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[:i]
	}
	return ""
}

func attrPart(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }
