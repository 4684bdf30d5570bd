package mask

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// maxDepth is how deep a value below a sensitive key is shown as a structure;
// what lies deeper becomes ***.
const maxDepth = 5

// JSON returns a JSON value with the texts below sensitive keys replaced, and
// known secrets in any other text. The order of keys is kept. What is not JSON
// comes back as the JSON text "***": better nothing than a secret.
func (m *Masker) JSON(value []byte) json.RawMessage {
	if len(bytes.TrimSpace(value)) == 0 {
		return value
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	r := redactor{m: m, dec: dec, b: &b, enc: enc}
	if err := r.value(false, 0, false); err != nil {
		return json.RawMessage(`"` + Replacement + `"`)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return json.RawMessage(`"` + Replacement + `"`)
	}
	return b.Bytes()
}

// Value masks a value that is shown under a name: all of it if the name is
// sensitive, JSON by its keys, any other text by known secrets.
func (m *Masker) Value(name, value string) string {
	if m.Sensitive(name) {
		return Replacement
	}
	if len(value) > 0 && (value[0] == '{' || value[0] == '[') && json.Valid([]byte(value)) {
		return string(m.JSON([]byte(value)))
	}
	return m.Mask(value)
}

type redactor struct {
	m   *Masker
	dec *json.Decoder
	b   *bytes.Buffer
	enc *json.Encoder
}

// value copies the next value. secret: below a sensitive key; hidden: too deep
// to be shown, nothing is written.
func (r *redactor) value(secret bool, depth int, hidden bool) error {
	t, err := r.dec.Token()
	if err != nil {
		return err
	}
	d, isDelim := t.(json.Delim)
	if secret && depth > maxDepth && !hidden {
		if err := r.put(Replacement); err != nil {
			return err
		}
		hidden = true
	}
	if !isDelim {
		if hidden {
			return nil
		}
		if s, ok := t.(string); ok {
			if secret {
				t = Replacement
			} else {
				t = r.m.Mask(s)
			}
		}
		return r.put(t)
	}
	if !hidden {
		r.b.WriteByte(byte(d))
	}
	for first := true; r.dec.More(); first = false {
		if !first && !hidden {
			r.b.WriteByte(',')
		}
		below := secret
		if d == '{' {
			k, err := r.dec.Token()
			if err != nil {
				return err
			}
			below = secret || r.m.Sensitive(k.(string))
			if !hidden {
				if err := r.put(k); err != nil {
					return err
				}
				r.b.WriteByte(':')
			}
		}
		if err := r.value(below, depth+1, hidden); err != nil {
			return err
		}
	}
	if t, err = r.dec.Token(); err != nil {
		return err
	}
	if !hidden {
		r.b.WriteByte(byte(t.(json.Delim)))
	}
	return nil
}

func (r *redactor) put(v any) error {
	if err := r.enc.Encode(v); err != nil {
		return err
	}
	r.b.Truncate(r.b.Len() - 1) // the newline
	return nil
}
