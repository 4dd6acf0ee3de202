package authtrip_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
)

// Two names that are no UTF-8 became one in the record, and one resource got the token of the other.
func TestVariantsThatAreNotUTF8AreToldApart(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		tokens := make(map[string]string)
		for round := range 2 {
			for _, variant := range []string{"\xff", "\xfe", "\ufffd", "", "\x00/w"} {
				src := replicas(r, 1, store)[0]
				src.Variant = variant
				tok, err := src.Token()
				if err != nil {
					t.Fatal(err)
				}
				if before := tokens[variant]; round == 1 && before != tok.AccessToken {
					t.Errorf("variant %q has another token after a restart", variant)
				}
				tokens[variant] = tok.AccessToken
			}
		}
		seen := make(map[string]bool)
		for _, token := range tokens {
			seen[token] = true
		}
		if len(seen) != len(tokens) {
			t.Errorf("%d variants have %d tokens", len(tokens), len(seen))
		}
	})
}

// A record that somebody has written by hand, without a number, was read and never used.
func TestRecordWithoutALoginNumberIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Pointer[error]
		store := new(authtrip.MemoryStore)
		if _, err := store.Save(t.Context(), "alice", []byte(`{"format":2,"access_token":"a","refresh_token":"r"}`), ""); err != nil {
			t.Fatal(err)
		}
		src := &authtrip.Source{Store: store, Key: "alice", Refresher: counted(&fail)}
		defer src.Close()
		if tok, err := src.Token(); err != nil || tok.AccessToken != "a" {
			t.Errorf("Token() = %v", err)
		}
	})
}
