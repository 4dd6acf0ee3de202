package exact_test

import (
	"encoding/json"
	"testing"

	"example.com/authtrip/internal/exact"
)

func matters(name string) bool { return name == "iss" || name == "sub" }

// Rule 62: no member is taken for another one, and one that nobody needs refuses nothing.
func TestRule62MembersHaveExactNames(t *testing.T) {
	type doc struct {
		Issuer string `json:"iss"`
		Other  string `json:"other"`
		Flag   bool   `json:"flag"`
	}
	for in, want := range map[string]*doc{
		`{"iss":"a","ISS":"b","other":"c"}`: {Issuer: "a", Other: "c"},
		`{"ISS":"b","iss":"a"}`:             {Issuer: "a"},
		`{"ISS":"b"}`:                       {},
		`{"iss":"a","other":7}`:             {Issuer: "a"},
		`{"iss":"a","flag":"true"}`:         {Issuer: "a", Flag: true},
		`{"iss":"a","other":"1","other":2}`: {Issuer: "a"},
		`{"iss":"a","iss":"a"}`:             nil,
		`{"iss":7}`:                         nil,
		`{"iss":"a"}{}`:                     nil,
		`{"iss":"a"`:                        nil,
		`["iss"]`:                           nil,
		``:                                  nil,
	} {
		var got doc
		err := exact.Decode([]byte(in), &got, matters)
		if (err == nil) != (want != nil) || want != nil && got != *want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
}

// Whoever decodes what is left, as encoding/json does, finds what was verified.
func TestOnlyLeavesOutNamesInOtherCase(t *testing.T) {
	var got struct{ Sub string }
	if err := json.Unmarshal(exact.Only([]byte(`{"sub":"alice","SUB":"mallory"}`), matters), &got); err != nil || got.Sub != "alice" {
		t.Errorf("sub = %q, %v", got.Sub, err)
	}
	if same := []byte(`{"sub":"alice", "Name":"A"}`); string(exact.Only(same, matters)) != string(same) {
		t.Error("a document with nothing to leave out is changed")
	}
}
