package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// skAsk holds what a running task asks of the scheduler, and the answer. It lies
// in the partition of its instance: the only one a worker may write.
const skAsk = "ASK"

const attrAnswer = "an" // also that of a request to people

func askKey(k airflow.TaskInstanceKey, id string) kv.Key {
	return kv.Key{PK: tiPK(k), SK: joinKey(skAsk, id)}
}

// askLife is how long a question and its answer are kept.
const askLife = 24 * time.Hour

// PutAsk stores a question of a running instance. One that is asked again under
// its id keeps its answer.
func (s *Store) PutAsk(ctx context.Context, k airflow.TaskInstanceKey, id string, question json.RawMessage, now time.Time) error {
	it := entity(askKey(k, id), question, nil)
	it.ExpiresAt = now.Add(askLife).Unix()
	err := s.kv.Write(ctx, kv.Put(it, kv.NotExists()))
	if errors.Is(err, kv.ErrConditionFailed) {
		return nil
	}
	return translate(err)
}

// GetAsk returns a question and its answer, nil if there is none yet.
func (s *Store) GetAsk(ctx context.Context, k airflow.TaskInstanceKey, id string) (question, answer json.RawMessage, err error) {
	it, err := s.kv.Get(ctx, askKey(k, id), true)
	if err != nil {
		return nil, nil, translate(err)
	}
	if err := checkFormat(it); err != nil {
		return nil, nil, err
	}
	return it.Bytes(attrDoc), it.Bytes(attrAnswer), nil
}

// AnswerAsk stores the answer to a question; the first one stays.
func (s *Store) AnswerAsk(ctx context.Context, k airflow.TaskInstanceKey, id string, answer json.RawMessage) error {
	err := s.kv.Write(ctx, kv.Update(askKey(k, id), kv.And(kv.Exists(), kv.Missing(attrAnswer)), kv.Assign(attrAnswer, kv.Bytes(answer))))
	if errors.Is(err, kv.ErrConditionFailed) {
		return nil
	}
	return translate(err)
}

// SealVariable encrypts a variable for PutSealedVariable, so that it can be
// handed to a process that does not hold the key.
func (s *Store) SealVariable(v airflow.Variable) ([]byte, error) {
	b, err := s.seal(namedKey(kindVariable, v.Key), v)
	if err != nil {
		return nil, fmt.Errorf("variable %q: %w", v.Key, err)
	}
	return b, nil
}

// PutSealedVariable creates or replaces a variable that SealVariable encrypted.
func (s *Store) PutSealedVariable(ctx context.Context, key string, sealed []byte) error {
	k := namedKey(kindVariable, key)
	return translate(s.kv.Write(ctx, kv.Put(entity(k, sealed, listed(kindVariable, joinKey(key))), kv.Cond{})))
}
