import { useEffect, useState } from "preact/hooks";
import { getOperations, replay, type Operations as State } from "../api";
import { useWords } from "../language";
import { Table } from "./Table";

const refreshMs = 5000;

export function Operations() {
  const words = useWords();
  const [state, setState] = useState<State | null>(null);
  const [told, setTold] = useState("");
  const [fault, setFault] = useState("");
  const read = (): Promise<void> =>
    getOperations().then(
      (answer) => {
        setState(answer);
        setFault("");
      },
      (error: unknown) => setFault(words.fault(error)),
    );
  useEffect(() => {
    void read();
    const timer = setInterval(() => void read(), refreshMs);
    return () => clearInterval(timer);
  }, []);
  const again = async (event: string): Promise<void> => {
    try {
      await replay(event);
      setTold(words.say("replayed"));
      await read();
    } catch (error) {
      setFault(words.fault(error));
    }
  };
  return (
    <main id="content" class="operations">
      <h1>{words.say("operations")}</h1>
      <p aria-live="polite" class="toast">
        {told}
      </p>
      {fault && (
        <p class="fault" role="alert">
          {fault}
        </p>
      )}
      {!state && !fault && <p class="faint">{words.say("loading")}</p>}
      {state && (
        <>
          <Table caption={words.say("stages")} rows={state.stages} />
          <Table
            caption={words.say("dead_letters")}
            rows={state.dead_letters}
            action={(row) => (
              <button
                type="button"
                disabled={row.replayed === true}
                onClick={() => void again(String(row.event_id))}
              >
                {words.say("replay")}
              </button>
            )}
          />
          <Table caption={words.say("destinations")} rows={state.destinations} />
          <Table caption={words.say("models_held")} rows={state.models} />
        </>
      )}
    </main>
  );
}
