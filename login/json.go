package login

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
)

// This file reads what a server sends by the exact names of its members (Rule 62).
// encoding/json takes SUB for sub, and the last of several for the only one.

var errNoObject = errors.New("is not a JSON object")

// members splits one JSON object. twice has the names that are there more than once.
func members(doc []byte) (all map[string]json.RawMessage, twice map[string]bool, err error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, nil, errNoObject
	}
	all, twice = make(map[string]json.RawMessage), make(map[string]bool)
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, nil, errNoObject
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return nil, nil, errNoObject
		}
		key, _ := name.(string)
		_, twice[key] = all[key]
		all[key] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, nil, errNoObject
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, errNoObject
	}
	return all, twice, nil
}

// decodeExact reads a JSON object into the struct that v points to. A member that
// matters must be there once at most, and of its type; of any other, an odd one is
// as good as none.
func decodeExact(doc []byte, v any, matters func(name string) bool) error {
	all, twice, err := members(doc)
	if err != nil {
		return err
	}
	return fill(reflect.ValueOf(v).Elem(), all, twice, matters)
}

func everyMember(string) bool { return true }

func fill(v reflect.Value, all map[string]json.RawMessage, twice map[string]bool, matters func(string) bool) error {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous {
			if err := fill(v.Field(i), all, twice, matters); err != nil {
				return err
			}
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		value, ok := all[name]
		if name == "" || !ok {
			continue
		}
		if field.Type.Kind() == reflect.Bool && string(value) == `"true"` {
			value = []byte("true")
		}
		err := json.Unmarshal(value, v.Field(i).Addr().Interface())
		switch {
		case matters(name) && twice[name]:
			return errors.New("has " + name + " twice")
		case matters(name) && err != nil:
			return errors.New(name + " has the wrong type")
		case err != nil:
			v.Field(i).SetZero()
		}
	}
	return nil
}

// exactly returns doc without the members that are named as one that matters but for
// their case: whoever decodes it finds what was verified.
func exactly(doc []byte, matters func(name string) bool) []byte {
	all, _, err := members(doc)
	if err != nil {
		return doc
	}
	n := len(all)
	for name := range all {
		if !matters(name) && matters(strings.ToLower(name)) {
			delete(all, name)
		}
	}
	if len(all) == n {
		return doc
	}
	doc, _ = json.Marshal(all) // as it was read
	return doc
}

// words is a JSON string, or an array of which the strings count.
type words []string

// UnmarshalJSON implements [json.Unmarshaler].
func (w *words) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*w = nil
		if one != "" {
			*w = words{one}
		}
		return nil
	}
	var many []any
	if err := json.Unmarshal(b, &many); err != nil {
		return err
	}
	*w = nil
	for _, v := range many {
		if s, ok := v.(string); ok {
			*w = append(*w, s)
		}
	}
	return nil
}

// word is a JSON string, or a number as it is written.
type word string

// UnmarshalJSON implements [json.Unmarshaler].
func (w *word) UnmarshalJSON(b []byte) error {
	var n json.Number
	if err := json.Unmarshal(b, (*string)(w)); err == nil {
		return nil
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	*w = word(n)
	return nil
}
