package serde

import (
	"encoding/json"
	"testing"
)

func TestDocumentToXCom(t *testing.T) {
	for in, want := range map[string]string{
		`{"b":1,"a":[1.0,null,true,"é<"]}`:                                            `{"b":1,"a":[1.0,null,true,"é\u003c"]}`,
		`{"__type":"tuple","__var":[1,{"__type":"timedelta","__var":90.5}]}`:          `{"__classname__":"builtins.tuple","__version__":1,"__data__":[1,{"__classname__":"datetime.timedelta","__version__":2,"__data__":90.5}]}`,
		`{"__type":"dict","__var":{"k":{"__type":"set","__var":[1]}}}`:                `{"k":{"__classname__":"builtins.set","__version__":1,"__data__":[1]}}`,
		`{"__type":"datetime","__var":1767225600.25}`:                                 `{"__classname__":"datetime.datetime","__version__":2,"__data__":{"timestamp":1767225600.25,"tz":{"__classname__":"builtins.tuple","__version__":1,"__data__":["UTC","pendulum.tz.timezone.FixedTimezone",1,true]}}}`,
		`123456789012345678901234567890`:                                              `123456789012345678901234567890`,
		`{"__classname__":"pendulum.datetime.DateTime","__data__":{"timestamp":1.5}}`: "",
	} {
		v, err := FromDocument(json.RawMessage(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		got, err := EncodeXCom(v)
		if want == "" {
			if err == nil {
				t.Errorf("%s: a reserved key was stored: %s", in, got)
			}
			continue
		}
		if err != nil || string(got) != want {
			t.Errorf("%s\n got %s %v\nwant %s", in, got, err, want)
			continue
		}
		back, err := DecodeXCom(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := EncodeXCom(back)
		if err != nil || string(again) != want {
			t.Errorf("%s does not survive a round trip: %s %v", want, again, err)
		}
	}
}

func TestReferences(t *testing.T) {
	v, err := FromDocument(json.RawMessage(`[{"__type":"xcomref","__var":{"task_id":"a","key":"k"}},{"__type":"callable","__var":{"file":"f.py","name":"g"}},{"__type":"callable","__var":"m.f"}]`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := EncodeXCom(v); err == nil {
		t.Error("an unresolved XCom reference was stored")
	}
	if _, err := FromDocument(json.RawMessage(`{"__type":"timedelta","__var":"x"}`)); err == nil {
		t.Error("a malformed tag was accepted")
	}
}

func TestDateRoundTrip(t *testing.T) {
	const in = `{"__classname__":"datetime.date","__version__":2,"__data__":"2026-01-02"}`
	v, err := DecodeXCom(json.RawMessage(in))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := EncodeXCom(v); err != nil || string(got) != in {
		t.Errorf("got %s %v", got, err)
	}
}
