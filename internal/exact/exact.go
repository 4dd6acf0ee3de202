// Package exact reads JSON objects by the exact names of their members (rule 62).
// encoding/json takes SUB for sub, and the last of several for the only one.
package exact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

var errNoObject = errors.New("is not a JSON object")

// Members splits one JSON object. twice has the names that are there more than once.
func Members(doc []byte) (all map[string]json.RawMessage, twice map[string]bool, err error) {
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
		_, there := all[key]
		twice[key] = there
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

// Decode reads a JSON object into the struct that v points to. A member that
// matters must be there once at most, and of its type; of any other, an odd one is
// as good as none.
func Decode(doc []byte, v any, matters func(name string) bool) error {
	all, twice, err := Members(doc)
	if err != nil {
		return err
	}
	return fill(reflect.ValueOf(v).Elem(), all, twice, matters)
}

// Every is for Decode where all members matter.
func Every(string) bool { return true }

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
			return fmt.Errorf("has %s twice", name)
		case matters(name) && err != nil:
			return fmt.Errorf("%s has the wrong type", name)
		case err != nil:
			v.Field(i).SetZero()
		}
	}
	return nil
}

// Only returns doc without the members that are named as one that matters but for
// their case: whoever decodes it finds what was verified.
func Only(doc []byte, matters func(name string) bool) []byte {
	all, _, err := Members(doc)
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
