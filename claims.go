package authtrip

import (
	"bytes"
	"encoding/json"
)

// members returns the members of a JSON object by their exact names, without those that
// are there more than once: such an object has no single reading. encoding/json would
// fill a struct's sub from "SUB" as well, and from the last of several. Rule 62.
func members(doc []byte) (map[string]json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(doc, &all); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(all))
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err = dec.Decode(&value); err != nil {
			return nil, err
		}
		name, _ := token.(string)
		if seen[name] {
			delete(all, name)
		}
		seen[name] = true
	}
	return all, nil
}
