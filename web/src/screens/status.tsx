import { useState } from "preact/hooks";
import { getInfo } from "../api/endpoints";
import { forgetKey, hasKey } from "../api/key";
import type { Model, ServerInfo } from "../api/types";
import { bytes, count } from "../text/format";
import { useLoaded } from "../ui/load";
import { Busy, Failure, Title } from "../ui/parts";

export function StatusScreen() {
  const { value, error, loading } = useLoaded(getInfo, []);
  return (
    <>
      <Title>Status</Title>
      {error && <Failure error={error} />}
      {!value && loading && <Busy>Loading</Busy>}
      {value && <Info info={value} />}
      <Key />
    </>
  );
}

function Info({ info }: { info: ServerInfo }) {
  const { limits } = info;
  return (
    <>
      <Facts
        title="Server"
        facts={[
          ["Version", info.version],
          ["Commit", info.commit.slice(0, 12)],
          ["Schema of the store", String(info.schema_version)],
        ]}
      />
      <section aria-label="Models">
        <h2>Models</h2>
        {info.models.length === 0 && <p class="note">No model is loaded.</p>}
        <ul class="cards">
          {info.models.map((one) => (
            <ModelCard key={`${one.kind} ${one.id}`} model={one} />
          ))}
        </ul>
      </section>
      {limits && (
        <Facts
          title="Limits"
          facts={[
            ["A document", bytes(limits.max_document_bytes)],
            ["A request", bytes(limits.max_message_bytes)],
            ["A text or conversation", bytes(limits.max_text_bytes)],
            ["Inputs of a request", count(limits.max_batch_size)],
            ["Requests at once", count(limits.max_concurrent_requests)],
          ]}
        />
      )}
    </>
  );
}

const KINDS: Record<Model["kind"], string> = {
  MODEL_KIND_UNSPECIFIED: "model",
  MODEL_KIND_ENCODER: "encoder",
  MODEL_KIND_GENERATOR: "generator",
  MODEL_KIND_CROSS_ENCODER: "cross-encoder",
};

function ModelCard({ model }: { model: Model }) {
  const facts: [string, string][] = [
    ["Kind", KINDS[model.kind] ?? model.kind],
    ["Revision", model.revision.slice(0, 12)],
    ["Runs by", model.execution_provider.replace(/ExecutionProvider$/, "")],
    ["Precision", model.precision],
    ["Dimensions", model.dimensions > 0 ? count(model.dimensions) : ""],
    ["Most tokens", model.max_tokens > 0 ? count(model.max_tokens) : ""],
  ];
  return (
    <li class="card">
      <h3>{model.id}</h3>
      <FactList facts={facts} />
    </li>
  );
}

function Facts({ title, facts }: { title: string; facts: [string, string][] }) {
  return (
    <section aria-label={title}>
      <h2>{title}</h2>
      <FactList facts={facts} />
    </section>
  );
}

function FactList({ facts }: { facts: [string, string][] }) {
  return (
    <dl class="fact-list">
      {facts
        .filter(([, value]) => value !== "")
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

function Key() {
  const [kept, setKept] = useState(hasKey());
  if (!kept) return null;
  return (
    <section aria-label="Key">
      <h2>Key</h2>
      <p>This tab uses an API key.</p>
      <button
        type="button"
        onClick={() => {
          forgetKey();
          setKept(false);
        }}
      >
        Forget the key
      </button>
    </section>
  );
}
