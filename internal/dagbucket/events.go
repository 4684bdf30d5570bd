package dagbucket

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// Event says that an object was written or removed.
type Event struct {
	Bucket string
	Key    string // decoded
	// Removed says that the object is gone; VersionID and ETag are then those of
	// the marker, or absent.
	Removed         bool
	VersionID, ETag string
	// Sequencer orders events of one key; "" where the event has none.
	Sequencer string
}

type s3Notification struct {
	Records []struct {
		EventSource string `json:"eventSource"`
		EventName   string `json:"eventName"`
		S3          struct {
			Bucket struct {
				Name string `json:"name"`
			} `json:"bucket"`
			Object struct {
				Key       string `json:"key"`
				ETag      string `json:"eTag"`
				VersionID string `json:"versionId"`
				Sequencer string `json:"sequencer"`
			} `json:"object"`
		} `json:"s3"`
	} `json:"Records"`
	// Event is s3:TestEvent when notifications are set up.
	Event string `json:"Event"`
	// EventBridge:
	DetailType string `json:"detail-type"`
	Source     string `json:"source"`
	Detail     struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"`
			ETag      string `json:"etag"`
			VersionID string `json:"version-id"`
			Sequencer string `json:"sequencer"`
		} `json:"object"`
	} `json:"detail"`
}

// Version returns a version id as Object has it: "null", of a bucket without
// versions, is "".
func Version(id string) string {
	if id == "null" {
		return ""
	}
	return id
}

// ParseEvents reads a notification of S3, sent by the bucket itself or through
// EventBridge. s3:TestEvent holds no event; what is no notification is an error.
func ParseEvents(body []byte) ([]Event, error) {
	var n s3Notification
	if err := json.Unmarshal(body, &n); err != nil {
		return nil, fmt.Errorf("S3 notification: %w", err)
	}
	switch {
	case n.Event == "s3:TestEvent":
		return nil, nil
	case n.Source == "aws.s3" && strings.HasPrefix(n.DetailType, "Object "):
		o := n.Detail.Object
		return []Event{{Bucket: n.Detail.Bucket.Name, Key: o.Key, Removed: n.DetailType == "Object Deleted", VersionID: Version(o.VersionID), ETag: strings.Trim(o.ETag, `"`), Sequencer: o.Sequencer}}, nil
	case len(n.Records) == 0:
		return nil, fmt.Errorf("S3 notification: expected Records, found %.200s", body)
	}
	var out []Event
	for _, r := range n.Records {
		name := strings.TrimPrefix(r.EventName, "s3:")
		removed := strings.HasPrefix(name, "ObjectRemoved:") || strings.HasPrefix(name, "LifecycleExpiration:")
		if !removed && !strings.HasPrefix(name, "ObjectCreated:") && !strings.HasPrefix(name, "ObjectRestore:") {
			continue // tags, access lists, replication: no content changed
		}
		o := r.S3.Object
		key, err := url.QueryUnescape(o.Key)
		if err != nil {
			key = o.Key // the listing decides anyhow
		}
		out = append(out, Event{Bucket: r.S3.Bucket.Name, Key: key, Removed: removed, VersionID: Version(o.VersionID), ETag: strings.Trim(o.ETag, `"`), Sequencer: o.Sequencer})
	}
	return out, nil
}

// Newest returns the newest event of each key, in order of their first appearance.
// Of two that do not say which is newer, the later one stays.
func Newest(events []Event) []Event {
	var out []Event
	at := map[string]int{}
	for _, e := range events {
		id := e.Bucket + "/" + e.Key
		i, seen := at[id]
		switch {
		case !seen:
			at[id] = len(out)
			out = append(out, e)
		case !older(e.Sequencer, out[i].Sequencer):
			out[i] = e
		}
	}
	return out
}

// older compares sequencers: hexadecimal numbers of different lengths, the shorter
// filled up with zeros on the right, as S3 says.
func older(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	n := max(len(a), len(b))
	a += strings.Repeat("0", n-len(a))
	b += strings.Repeat("0", n-len(b))
	return strings.ToLower(a) < strings.ToLower(b)
}

// Reflects reports whether the last listing shows what an event tells. An event of
// an older version is not reflected: only a listing tells what came of it.
func (f *Folder) Reflects(e Event) bool {
	l := f.current()
	if l.digest == "" {
		return false
	}
	name, ours := strings.CutPrefix(e.Key, f.prefix)
	if !ours {
		return true // not below the prefix: nothing to see
	}
	o, there := l.files[name]
	if e.Removed {
		return !there
	}
	return there && o.ETag == e.ETag && o.VersionID == e.VersionID && (e.VersionID != "" || e.ETag != "")
}
