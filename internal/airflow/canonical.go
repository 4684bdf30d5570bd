package airflow

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
)

// notHashed are the DAG fields that depend on the parsing machine.
var notHashed = map[string]bool{"fileloc": true, "_processor_dags_folder": true}

// CanonicalDAG returns the document in canonical form and its hex SHA-256, the
// content hash of the DAG version: keys are sorted except where their order
// carries meaning (children of task groups, arguments of expand), sets are
// sorted (Python leaves their order open), fields of the parsing machine are
// left out. Two producers of the same DAG get the same hash.
func CanonicalDAG(doc []byte) (canonical []byte, hash string, err error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	root, err := decodeNode(dec)
	if err != nil {
		return nil, "", Invalid("", "serialized DAG is not a JSON object: %v", err)
	}
	env, ok := root.(*object)
	if !ok {
		return nil, "", Invalid("", "serialized DAG is not a JSON object")
	}
	if dag, ok := env.vals["dag"].(*object); ok {
		for k := range notHashed {
			dag.remove(k)
		}
		if tags, ok := dag.vals["tags"].([]any); ok {
			sortNodes(tags)
		}
	}
	var buf bytes.Buffer
	writeNode(&buf, env, false)
	sum := sha256.Sum256(buf.Bytes())
	return buf.Bytes(), hex.EncodeToString(sum[:]), nil
}

// object is a JSON object that remembers the order of its keys.
type object struct {
	keys []string
	vals map[string]any
}

func (o *object) remove(key string) {
	if _, ok := o.vals[key]; !ok {
		return
	}
	delete(o.vals, key)
	for i, k := range o.keys {
		if k == key {
			o.keys = append(o.keys[:i:i], o.keys[i+1:]...)
			return
		}
	}
}

func decodeNode(dec *json.Decoder) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		o := &object{vals: map[string]any{}}
		for dec.More() {
			k, err := dec.Token()
			if err != nil {
				return nil, err
			}
			v, err := decodeNode(dec)
			if err != nil {
				return nil, err
			}
			key := k.(string)
			if _, dup := o.vals[key]; !dup {
				o.keys = append(o.keys, key)
			}
			o.vals[key] = v
		}
		_, err := dec.Token()
		return o, err
	case json.Delim('['):
		l := []any{}
		for dec.More() {
			v, err := decodeNode(dec)
			if err != nil {
				return nil, err
			}
			l = append(l, v)
		}
		_, err := dec.Token()
		return l, err
	}
	return t, nil
}

// writeNode writes v with sorted keys, or in document order if keepOrder.
func writeNode(buf *bytes.Buffer, v any, keepOrder bool) {
	switch v := v.(type) {
	case *object:
		keys := v.keys
		if !keepOrder {
			keys = append([]string(nil), keys...)
			sort.Strings(keys)
		}
		if l, ok := v.vals["__var"].([]any); ok && v.vals["__type"] == "set" {
			sortNodes(l)
		}
		buf.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				buf.WriteByte(',')
			}
			writeScalar(buf, k)
			buf.WriteByte(':')
			child := v.vals[k]
			ordered := k == "children"
			if k == "value" && v.vals["type"] == string(ExpandDictOfLists) {
				writeExpandArgs(buf, child)
				continue
			}
			writeNode(buf, child, ordered)
		}
		buf.WriteByte('}')
	case []any:
		buf.WriteByte('[')
		for i, x := range v {
			if i > 0 {
				buf.WriteByte(',')
			}
			writeNode(buf, x, false)
		}
		buf.WriteByte(']')
	default:
		writeScalar(buf, v)
	}
}

// writeExpandArgs writes the arguments of expand in their order, whether they
// are a typed dict or a bare object.
func writeExpandArgs(buf *bytes.Buffer, v any) {
	o, ok := v.(*object)
	if !ok || o.vals["__type"] != "dict" {
		writeNode(buf, v, true)
		return
	}
	buf.WriteString(`{"__type":"dict","__var":`)
	writeNode(buf, o.vals["__var"], true)
	buf.WriteByte('}')
}

func writeScalar(buf *bytes.Buffer, v any) {
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		fmt.Fprintf(buf, "%q", err.Error()) // unreachable: v came out of a JSON decoder
	}
	buf.Truncate(buf.Len() - 1) // Encode ends with a newline
}

func sortNodes(l []any) {
	text := func(v any) string {
		var b bytes.Buffer
		writeNode(&b, v, false)
		return b.String()
	}
	sort.SliceStable(l, func(i, j int) bool { return text(l[i]) < text(l[j]) })
}
