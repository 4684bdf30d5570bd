package engine

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// documents caches compiled DAG versions by content hash. Least recently used
// ones go first, so that memory stays flat however many DAGs are idle.
type documents struct {
	store *store.Store
	mu    sync.Mutex
	items map[string]*list.Element
	order *list.List // front = most recent
	max   int
}

type documentEntry struct {
	hash  string
	graph *scheduler.Graph
}

// maxDocuments bounds the cache; a compiled DAG of 10 tasks takes about 20 KB.
const maxDocuments = 2000

func newDocuments(s *store.Store) *documents {
	return &documents{store: s, items: map[string]*list.Element{}, order: list.New(), max: maxDocuments}
}

// get returns the compiled DAG version of a hash.
func (d *documents) get(ctx context.Context, hash string) (*scheduler.Graph, error) {
	d.mu.Lock()
	if el, ok := d.items[hash]; ok {
		d.order.MoveToFront(el)
		d.mu.Unlock()
		return el.Value.(documentEntry).graph, nil
	}
	d.mu.Unlock()
	doc, err := d.store.GetDocument(ctx, hash)
	if err != nil {
		return nil, fmt.Errorf("DAG document %s: %w", hash, err)
	}
	dag, err := airflow.ParseDAG(doc)
	if err != nil {
		return nil, fmt.Errorf("DAG document %s: %w", hash, err)
	}
	g, err := scheduler.Compile(dag)
	if err != nil {
		return nil, fmt.Errorf("DAG document %s: %w", hash, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if el, ok := d.items[hash]; ok {
		return el.Value.(documentEntry).graph, nil
	}
	d.items[hash] = d.order.PushFront(documentEntry{hash, g})
	for d.order.Len() > d.max {
		last := d.order.Back()
		d.order.Remove(last)
		delete(d.items, last.Value.(documentEntry).hash)
	}
	return g, nil
}
